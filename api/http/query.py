"""Reads the parameters of a query into typed values; each error names its parameter."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

from flask import request

from core.errors import InvalidRequest
from core.ids import Prefix, parse_id
from core.text.integers import bounded_integer

E = TypeVar("E", bound=StrEnum)

#: Times that the database and ids can hold.
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


def read_text(name: str, *, max_length: int) -> str | None:
    """Return a parameter, or `None` if it is missing or empty."""
    text = request.args.get(name)
    if text and ("\x00" in text or len(text) > max_length):
        raise InvalidRequest(f"{name} must have at most {max_length} characters", param=name)
    return text or None


def read_id_of(name: str, prefix: Prefix) -> UUID | None:
    """Return the id in a parameter, or `None` if it is missing or empty."""
    text = request.args.get(name)
    if not text:
        return None
    found = parse_id(prefix, text)
    if found is None:
        raise InvalidRequest(f"{name} must be an id such as {prefix}_…", param=name)
    return found


def read_time(name: str) -> datetime | None:
    """Return a date or time of RFC 3339 in UTC, or `None` if it is missing or empty."""
    text = request.args.get(name)
    if not text:
        return None
    try:
        # A plus sign without escape arrives as a space.
        moment = datetime.fromisoformat(text.replace(" ", "+"))
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        is_in_range = _FIRST <= moment < _LAST
    except (ValueError, OverflowError):
        is_in_range = False
    if not is_in_range:
        raise InvalidRequest(
            f"{name} must be a time such as 2026-11-01 or 2026-11-01T12:00:00Z", param=name
        )
    return moment


def read_number(name: str, *, default: int, least: int = 0, most: int) -> int:
    """Return a whole number from `least` to `most`."""
    number = bounded_integer(request.args.get(name, str(default)), least=least, most=most)
    if number is None:
        raise InvalidRequest(f"{name} must be between {least} and {most}", param=name)
    return number


def read_choice(name: str, kind: type[E]) -> E | None:
    """Return the member of an enum that a parameter names, or `None` if it is missing."""
    text = request.args.get(name)
    if text is None:
        return None
    try:
        return kind(text)
    except ValueError:
        raise InvalidRequest(f"{name} must be one of {', '.join(kind)}", param=name) from None
