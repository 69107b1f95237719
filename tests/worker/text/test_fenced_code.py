"""A completion that starts behind a code fence is cut to its code."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.text.fenced_code import MAX_INFO_CHARACTERS, FencedCode
from worker.text.stop_strings import StopScanner, StopStrings

LINES = st.sampled_from(
    [
        *("```", "python\n", "```\n", "~~~\n", " ```", "###", "### Function\n", "c++ title=x\n"),
        *("def f():\n", "    return 1\n", "\n", "x", "`", "prose " * 20),
    ]
)


def scanner(*stop: str) -> FencedCode:
    return FencedCode(StopScanner(StopStrings(stop or ("###", "```"))))


def code_of(text: str, *stop: str, cuts: tuple[int, ...] = (), min_length: int = 0) -> str:
    """Return the code of a text that arrives in pieces, with `|` after a stop.

    Args:
        cuts: positions in the text at which a new piece starts.
    """
    code = scanner(*stop)
    bounds = sorted({min(cut, len(text)) for cut in cuts} | {0, min_length, len(text)})
    pieces = [code.push(text[a:b], may_stop=a >= min_length) for a, b in pairwise(bounds)]
    return "".join(pieces) + code.flush() + "|" * code.has_stopped


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("python\ndef f(): ...\n```\nIt does nothing.", "def f(): ...\n|"),
        ("\nx = 1\n```", "x = 1\n|"),
        (" python title=x\nx = 1\n```\nMore\n```\ny\n```", "x = 1\n|"),
        ("c++\r\nint x;\r\n```", "int x;\r\n|"),
        ("python\nx = 1\n### Test\n", "x = 1\n|"),
        ("python\nx = 1\n", "x = 1\n"),
        ("def f(x):\n    return x\n```", "def f(x):\n    return x\n|"),
        ("x = 1```", "x = 1|"),
        ("x", "x"),
        ("```", "|"),
        ("", ""),
    ],
)
def test_only_the_code_is_returned(text: str, code: str) -> None:
    assert code_of(text) == code


def test_only_the_fence_of_the_stop_strings_closes_the_code() -> None:
    assert code_of("md\n```python\nx = 1\n```\n````\n", "````") == "```python\nx = 1\n```\n|"


@given(lines=st.lists(LINES, max_size=14), cuts=st.lists(st.integers(0, 400), max_size=60))
def test_the_division_into_pieces_does_not_change_the_code(
    lines: list[str], cuts: list[int]
) -> None:
    text = "".join(lines)

    whole = code_of(text)

    assert code_of(text, cuts=tuple(cuts)) == whole
    assert code_of(text, cuts=tuple(range(len(text)))) == whole


def test_a_long_first_line_is_returned_before_its_end() -> None:
    code = scanner()

    assert code.push("x" * MAX_INFO_CHARACTERS) == ""
    assert code.push("y") == "x" * MAX_INFO_CHARACTERS + "y"
    assert code.push("z") == "z"


def test_code_is_returned_as_it_is_generated() -> None:
    code = scanner()

    pieces = ["py", "thon", "\n", "x", " = 1", "\n", "`", "``", "no"]

    assert [code.push(piece) for piece in pieces] == ["", "", "", "x", " = 1", "\n", "", "", ""]


def test_a_fence_within_the_minimum_length_closes_nothing() -> None:
    text = "python\nx = 1\n```\ny = 2\n```\n"

    assert code_of(text, min_length=18) == "x = 1\n```\ny = 2\n|"
    assert code_of("x.y()\n###\ny\n###\n", min_length=9) == "x.y()\n###\ny\n|"
