"""Cells of CSV files that no spreadsheet runs as a formula (as OWASP's "CSV Injection" says)."""

from __future__ import annotations

import unicodedata
from typing import Any

from core.text.names import is_visible

#: What a spreadsheet takes for the beginning of a formula.
_FORMULA_STARTS = frozenset("=+-@")
#: What it drops in front of one: a text that begins with it is never a plain name.
_DROPPED = ("\t", "\r", "\n")


def csv_cell(value: Any) -> Any:
    """Return a value as it may stand in a cell; numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and _may_be_formula(value) else value


def _may_be_formula(text: str) -> bool:
    """Say whether a spreadsheet may run a text.

    Fullwidth signs count as the signs, and what shows nothing in front of them as nothing.
    """
    if text.lstrip(" ").startswith(_DROPPED):
        return True
    first = next(filter(is_visible, text), "")
    return unicodedata.normalize("NFKC", first)[:1] in _FORMULA_STARTS
