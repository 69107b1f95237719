"""A stop string ends a text at the same position however the text is divided, at a bounded cost."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.text.stop_strings import StopScanner, StopStrings

CUTS = st.lists(st.integers(0, 200), max_size=40)


def text_before_stop(text: str, stop: list[str]) -> str:
    """Return the text before the first stop string to end, or before the longest of several."""
    for end in range(len(text) + 1):
        found = [one for one in stop if text[:end].endswith(one)]
        if found:
            return text[: end - max(map(len, found))]
    return text


@given(
    text=st.text(alphabet="ab#`\n", max_size=40),
    stop=st.lists(st.text(alphabet="ab#`\n", min_size=1, max_size=5), max_size=8),
    cuts=CUTS,
)
def test_the_division_into_pieces_does_not_change_the_end_of_the_text(
    text: str, stop: list[str], cuts: list[int]
) -> None:
    scanner = StopScanner(StopStrings(stop))
    bounds = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    pieces = [text[a:b] for a, b in pairwise(bounds)]

    returned = ""
    for piece in pieces:
        returned += scanner.push(piece)
        # No returned text may turn out to be part of a stop string.
        assert not [s for s in stop if s in returned]
    returned += scanner.flush()

    assert returned == text_before_stop(text, stop)
    if scanner.has_stopped:
        assert text.startswith(returned)
        assert any(text[len(returned) :].startswith(s) for s in stop)
    else:
        assert returned == text


def test_text_after_a_stop_string_is_dropped() -> None:
    scanner = StopScanner(StopStrings(["###"]))

    assert [scanner.push(p) for p in ("code #", "#", "# more", " and more")] == [
        "code ",
        "",
        "",
        "",
    ]
    assert scanner.has_stopped
    assert scanner.flush() == ""


def test_a_text_that_only_starts_like_a_stop_string_is_returned_later() -> None:
    scanner = StopScanner(StopStrings(["###"]))

    assert [scanner.push(p) for p in ("a##", "b##")] == ["a", "##b"]
    assert scanner.flush() == "##"


def test_a_stop_string_does_not_start_in_text_that_may_not_stop() -> None:
    scanner = StopScanner(StopStrings(["###"]))

    returned = [scanner.push("a#", may_stop=False), scanner.push("##"), scanner.push("#b")]

    assert (returned, scanner.has_stopped) == (["a#", "", ""], True)


@pytest.mark.alone
def test_a_character_costs_the_same_with_many_long_stop_strings() -> None:
    hostile = ["a" * length + "b" for length in range(248, 256)]
    text = ("a" * 254 + "c") * 8

    assert seconds_of(hostile, text) < 10 * seconds_of(["c" * 3], text) + 0.02


def seconds_of(stop: list[str], text: str) -> float:
    def once() -> float:
        scanner = StopScanner(StopStrings(stop))
        began_at = time.perf_counter()
        for character in text:
            scanner.push(character)
        return time.perf_counter() - began_at

    return min(once() for _ in range(5))
