from __future__ import annotations

import pytest

from core.text.csv_cells import csv_cell

SIGNS = [*"=+-@", "\N{FULLWIDTH EQUALS SIGN}", "\N{FULLWIDTH PLUS SIGN}"]
SIGNS += ["\N{FULLWIDTH HYPHEN-MINUS}", "\N{FULLWIDTH COMMERCIAL AT}", "\N{SMALL PLUS SIGN}"]
FRONTS = ["", " ", "\u00a0", "\ufeff", "\u200b", "\u2003", "\v", "\x00", "\u3164", "\u200b \u00a0"]


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("front", FRONTS)
def test_a_formula_is_quoted(front: str, sign: str) -> None:
    cell = f"{front}{sign}cmd|' /C calc'!A0"

    assert csv_cell(cell) == f"'{cell}"


@pytest.mark.parametrize("front", ["\t", "\r", "\n", " \t"])
def test_a_front_that_spreadsheets_drop_is_quoted(front: str) -> None:
    assert csv_cell(f"{front}a") == f"'{front}a"


@pytest.mark.parametrize("value", ["", " ", "a=b", "Ann", "12", "\N{EURO SIGN}5", -3, 1.5, None])
def test_other_values_stay_the_same(value: object) -> None:
    assert csv_cell(value) == value
