"""Cells of CSV files that no spreadsheet runs as a formula (as OWASP's "CSV Injection" says)."""

from __future__ import annotations

from typing import Any

#: What a spreadsheet would take for a formula, or drop in front of one.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_cell(value: Any) -> Any:
    """Return a value as it may stand in a cell; numbers stay numbers."""
    is_formula = isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA_STARTS)
    return f"'{value}" if is_formula else value
