"""Reads what a person typed into a form field or the address bar."""

from __future__ import annotations

from collections.abc import Mapping

#: Longest text of a query; an email has at most this many characters.
MAX_QUERY_LENGTH = 320


def typed_text(values: Mapping[str, str], name: str) -> str:
    """Return a field without outer spaces and NUL, which PostgreSQL cannot store."""
    return values.get(name, "").replace("\x00", "").strip()


def query_text(arguments: Mapping[str, str], name: str) -> str:
    """Return a query parameter as `typed_text` does, cut to `MAX_QUERY_LENGTH` characters."""
    return typed_text(arguments, name)[:MAX_QUERY_LENGTH]
