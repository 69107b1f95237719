"""Escapes CSV cells, so that no spreadsheet runs them as formulas (OWASP, "CSV Injection")."""

from __future__ import annotations

import unicodedata
from typing import Any

from core.text.names import is_visible

#: Characters that begin a formula.
_FORMULA_STARTS = frozenset("=+-@")
#: Characters that a spreadsheet drops before a formula; no plain name begins with them.
_DROPPED = ("\t", "\r", "\n")


def csv_cell(value: Any) -> Any:
    """Return a value that is safe in a cell; numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and _may_be_formula(value) else value


def _may_be_formula(text: str) -> bool:
    """Return whether a spreadsheet may run a text.

    Fullwidth signs count as signs, and invisible characters before them are ignored.
    """
    if text.lstrip(" ").startswith(_DROPPED):
        return True
    first = next(filter(is_visible, text), "")
    return unicodedata.normalize("NFKC", first)[:1] in _FORMULA_STARTS
