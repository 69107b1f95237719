"""One choice's way through its text: nothing twice, nothing left out, no two texts mixed."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.following import _Track
from core.errors import ApiError, InvalidRequest
from core.job_news import TextPiece

WHOLE = "def añadir(x): return '🎉 世界' + x"


def piece(offset: int, text: str, attempt: int = 1) -> TextPiece:
    return TextPiece("job", attempt, 0, offset, text)


@given(st.text(max_size=40), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40))))
def test_pieces_in_any_cut_and_with_repeats_give_the_whole_text_once(
    whole: str, cuts: list[tuple[int, int]]
) -> None:
    track, got = _Track(), ""
    for offset, length in [*cuts, (0, len(whole))]:
        begin = min(offset, track.end)
        taken = track.take(piece(begin, whole[begin : begin + length]))
        assert taken is not None
        got += taken[0]
    assert got == whole


@given(st.text(min_size=1, max_size=60), st.integers(0, 60))
def test_a_position_is_where_a_later_connection_goes_on(whole: str, cut: int) -> None:
    first = _Track()
    first.take(piece(0, whole[:cut]))

    second = _Track.at(first.position)
    taken = second.take(piece(0, whole))

    assert taken is not None
    assert whole[:cut] + taken[0] == whole


def test_a_gap_is_seen() -> None:
    track = _Track()
    track.take(piece(0, "abc"))
    assert track.take(piece(4, "e")) is None


def test_an_attempt_that_comes_out_differently_is_not_mixed_with_the_one_before() -> None:
    track = _Track()
    track.take(piece(0, WHOLE[:10]))
    with pytest.raises(ApiError, match="differently"):
        track.take(piece(0, "another text altogether", attempt=2))


def test_a_later_connection_does_not_mix_them_either() -> None:
    first = _Track()
    first.take(piece(0, WHOLE[:10]))
    second = _Track.at(first.position)

    assert second.take(piece(10, WHOLE[10:])) is None  # not before what came before is known
    with pytest.raises(ApiError, match="differently"):
        second.take(piece(0, "another text altogether", attempt=2))


@pytest.mark.parametrize("position", ["", "5", "5:", "5:zz:0", "-1:0:0", "5:1:2:3", "٣:1:0"])
def test_what_is_no_position_is_refused(position: str) -> None:
    with pytest.raises(InvalidRequest):
        _Track.at(position)


@pytest.mark.alone
def test_a_piece_costs_the_same_however_long_the_text_is() -> None:
    def seconds(count: int) -> float:
        track = _Track()
        began = time.perf_counter()
        for place in range(count):
            track.take(piece(100 * place, "é" * 100))
            assert track.position
        return time.perf_counter() - began

    few, many = (min(seconds(count) for _ in range(3)) for count in (1_000, 8_000))

    assert many < 20 * few + 0.2  # 64 times if each piece cost as much as the text before it
