"""Writes durations in words, for messages and pages."""

from __future__ import annotations

from math import ceil


def duration_text(seconds: float) -> str:
    """Return a duration, rounded up: `45 seconds`, `1 minute`, `15 minutes`, `2 hours`."""
    whole = max(1, ceil(seconds))
    if whole < 60:
        return _count(whole, "second")
    minutes = ceil(whole / 60)
    return _count(minutes, "minute") if minutes < 120 else _count(ceil(minutes / 60), "hour")


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"
