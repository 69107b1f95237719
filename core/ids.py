"""Makes and converts ids: UUIDv7 inside, which sort by time; `gen_…` or `key_…` outside."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from uuid_utils.compat import uuid7


class Prefix(StrEnum):
    JOB = "gen"
    KEY = "key"
    USER = "user"
    REQUEST = "req"
    AUDIT = "act"
    WEBHOOK = "msg"
    BATCH = "batch"
    FILE = "file"
    SESSION = "session"


def new_id() -> UUID:
    """Return a new UUIDv7 (RFC 9562)."""
    return uuid7()


def earliest_id(moment: datetime) -> UUID:
    """Return the smallest id that can be made in this moment's millisecond or later.

    Raises:
        ValueError: the moment is before 1970.
    """
    milliseconds = int(moment.timestamp() * 1000)
    if milliseconds < 0:
        raise ValueError("no id was made before 1970")
    return UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62))


def format_id(prefix: Prefix, value: UUID) -> str:
    """Return the public form of an id: its prefix and 32 hex digits."""
    return f"{prefix}_{value.hex}"


def parse_id(prefix: Prefix, text: str) -> UUID | None:
    """Return the id of a public form, or `None` if `text` is not one."""
    head, _, digits = text.partition("_")
    if head != prefix or len(digits) != 32:
        return None
    try:
        value = UUID(hex=digits)
    except ValueError:
        return None
    # Python also accepts spaces, signs and `_` in numbers.
    return value if value.hex == digits.lower() else None
