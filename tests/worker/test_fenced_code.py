"""What comes back of an answer in Markdown when a stop string is the fence of its code."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.fenced_code import MOST_PREFACE, FencedCode, has_fence
from worker.stop_strings import StopStrings

STOP = ("###", "```")
LINES = st.sampled_from(
    [
        *("```", "```python\n", "```\n", "~~~\n", "````md\n", " ```", "###", "### Function\n"),
        *("Here it is:\n", "def f():\n", "    return 1\n", "\n", "x", "`", "Use ``` here: "),
        "prose " * 40,
    ]
)


def code_of(text: str, *stop: str, cuts: tuple[int, ...] = (), min_length: int = 0) -> str:
    """Return what is shown of a text that comes in pieces; `|` stands behind what stopped."""
    scanner = FencedCode(StopStrings(stop or STOP))
    places = sorted({min(place, len(text)) for place in cuts} | {0, min_length, len(text)})
    shown = [scanner.push(text[a:b], may_stop=a >= min_length) for a, b in pairwise(places)]
    return "".join(shown) + scanner.flush() + "|" * scanner.has_stopped


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\ndef f(): ...\n```\nIt does nothing.", "def f(): ...\n|"),
        ("```\nx = 1\n```", "x = 1\n|"),
        ("Sure!\n\n``` python title=x\nx = 1\n```\nMore\n```\ny\n```", "x = 1\n|"),
        ("### Function\n\n```python\nx = 1\n### Test\n", "x = 1\n|"),
        ("1. First:\n   ```python\n   x = 1\n   ```\n", "   x = 1\n   |"),
        ("Sure: ```python\nx = 1\n```", "x = 1\n|"),
        ("```python\r\nx = 1\r\n```", "x = 1\r\n|"),
        ("````md\n```python\nx = 1\n```\n````\n", "```python\nx = 1\n```\n|"),
        ("```python\nx = 1\n", "x = 1\n"),
        ("x = 1\ny = 2\n", "x = 1\ny = 2\n"),
        ("x = 1\n### Explanation\nIt is 1.", "x = 1\n|"),
        ("### Function\ndef f(): ...\n### Test\n", "### Function\ndef f(): ...\n|"),
        ("~~~python\nx = 1\n~~~\n", "~~~python\nx = 1\n~~~\n"),
        ("Call `f` with ``x``.\n", "Call `f` with ``x``.\n"),
        ("```", "```"),
        ("", ""),
    ],
)
def test_what_comes_back_is_the_code(text: str, code: str) -> None:
    assert code_of(text) == code


@pytest.mark.parametrize("fence", ["~~~", "~~~python", "\n~~~"])
def test_each_way_to_name_a_fence_counts(fence: str) -> None:
    assert has_fence(StopStrings(["###", fence]))
    assert code_of("Here:\n~~~python\nx = 1\n~~~\nThat is it.", fence) == "x = 1\n|"


def test_code_may_come_behind_a_long_explanation() -> None:
    explanation = "The Fibonacci sequence is a classic example of recurrence.\n\n" * 40

    assert code_of(f"{explanation}### Code\n```python\nx = 1\n```\n") == "x = 1\n|"


@pytest.mark.parametrize("stop", ["###", "``", "~~", "```\nx", "a```", "``~", "END"])
def test_other_stop_strings_are_no_fence(stop: str) -> None:
    assert not has_fence(StopStrings([stop]))


@given(lines=st.lists(LINES, max_size=14), cuts=st.lists(st.integers(0, 1500), max_size=60))
def test_a_stream_gives_the_same_code_however_it_is_cut(lines: list[str], cuts: list[int]) -> None:
    text = "".join(lines)

    whole = code_of(text)

    assert code_of(text, cuts=tuple(cuts)) == whole
    assert code_of(text, cuts=tuple(range(len(text)))) == whole


def test_an_answer_without_a_fence_does_not_wait_for_its_end() -> None:
    scanner = FencedCode(StopStrings(STOP))

    assert scanner.push("x" * MOST_PREFACE) == "x" * MOST_PREFACE
    assert scanner.push("y") == "y"
    assert scanner.push("\n```python\n") == "\n"
    assert scanner.has_stopped


def test_code_comes_as_it_is_made() -> None:
    scanner = FencedCode(StopStrings(STOP))

    pieces = ["Here", " it is:\n", "```", "py", "\n", "x", " = 1", "\n", "`", "``", "no"]

    assert [scanner.push(p) for p in pieces] == ["", "", "", "", "", "x", " = 1", "\n", "", "", ""]


def test_a_fence_within_the_least_length_closes_nothing() -> None:
    text = "```python\nx = 1\n```\ny = 2\n```\n"

    assert code_of(text, min_length=20) == "x = 1\n```\ny = 2\n|"
    assert code_of("x\n###\ny\n###\n", min_length=4) == "x\n###\ny\n|"
