"""A key and a clock for tests of the limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from core.ids import new_id
from core.limits.state import KeyUse

MINUTE = datetime(2026, 11, 24, 10, 17, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Key:
    """The limits of a key, without a row."""

    rate_limit: int = 1000
    token_limit: int | None = None
    max_in_flight: int | None = None
    monthly_token_limit: int | None = None
    id: UUID = field(default_factory=new_id)


class Clock:
    """A clock at the beginning of a minute. Only the test moves it."""

    def __init__(self) -> None:
        self.now = MINUTE

    def __call__(self) -> float:
        return self.now


def nothing(_: datetime) -> KeyUse:
    """Recall the usage of a key that was never used."""
    return KeyUse()
