from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from core.prompt import PromptTokenizer
from worker.text import IncrementalText, StopScanner

SNIPPETS = st.sampled_from(
    [
        "def f(x):\n\treturn x  # ok\n",
        "🎉👩‍👩‍👧‍👦🏳️‍🌈",
        "你好，世界。コードを書く",
        "naïve café  –  «ça»",
        "    ",
        "<|im_end|>",
        "a",
        "\n\n",
    ]
)
TEXTS = st.lists(SNIPPETS | st.text(max_size=8), max_size=8).map("".join)


def cut(ids: list[int], cuts: list[int]) -> list[list[int]]:
    places = sorted({min(place, len(ids)) for place in cuts} | {0, len(ids)})
    return [ids[a:b] for a, b in pairwise(places)]


CUTS = st.lists(st.integers(0, 200), max_size=40)


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, cuts=CUTS)
def test_pieces_of_a_text_join_to_the_text(
    tokenizer: PromptTokenizer, text: str, cuts: list[int]
) -> None:
    ids = tokenizer.tokenizer.encode(text, add_special_tokens=False).ids
    incremental = IncrementalText(tokenizer.decode)

    pieces = [incremental.push(part) for part in cut(ids, cuts)] + [incremental.flush()]

    assert "".join(pieces) == tokenizer.decode(ids)


@settings(max_examples=300, deadline=None)
@given(ids=st.lists(st.integers(0, 49151), max_size=60), cuts=CUTS)
def test_pieces_of_any_ids_join_to_what_decoding_gives(
    tokenizer: PromptTokenizer, ids: list[int], cuts: list[int]
) -> None:
    incremental = IncrementalText(tokenizer.decode)

    pieces = [incremental.push(part) for part in cut(ids, cuts)] + [incremental.flush()]

    assert "".join(pieces) == tokenizer.decode(ids)


def test_half_a_character_is_never_given(tokenizer: PromptTokenizer) -> None:
    ids = tokenizer.tokenizer.encode("🏳️‍🌈世界", add_special_tokens=False).ids
    incremental = IncrementalText(tokenizer.decode)

    pieces = [incremental.push([token]) for token in ids]

    assert len(ids) > len("🏳️‍🌈世界")
    assert not [piece for piece in pieces if "\ufffd" in piece]


@given(
    text=st.text(alphabet="ab#`\n", max_size=40),
    stop=st.lists(st.text(alphabet="ab#`\n", min_size=1, max_size=5), max_size=8),
    cuts=CUTS,
)
def test_a_stop_string_ends_the_text_wherever_it_is_cut(
    text: str, stop: list[str], cuts: list[int]
) -> None:
    scanner = StopScanner(stop)
    places = sorted({min(place, len(text)) for place in cuts} | {0, len(text)})
    pieces = [text[a:b] for a, b in pairwise(places)]

    shown = []
    for piece in pieces:
        shown.append(scanner.push(piece))
        # Nothing that was shown may turn out to be a part of a stop string.
        assert not [s for s in stop if s in "".join(shown)]
    shown.append(scanner.flush())

    given_text = "".join(shown)
    if scanner.has_stopped:
        assert text.startswith(given_text)
        assert any(text[len(given_text) :].startswith(s) for s in stop)
    else:
        assert given_text == text


def test_text_after_a_stop_string_is_dropped() -> None:
    scanner = StopScanner(["###"])

    assert [scanner.push(p) for p in ("code #", "#", "# more", " and more")] == [
        "code ",
        "",
        "",
        "",
    ]
    assert scanner.has_stopped
    assert scanner.flush() == ""


def test_what_only_began_like_a_stop_string_is_given_later() -> None:
    scanner = StopScanner(["###"])

    assert [scanner.push(p) for p in ("a##", "b##")] == ["a", "##b"]
    assert scanner.flush() == "##"
