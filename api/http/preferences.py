"""Reads the header `Prefer` of a generation (RFC 7240)."""

from __future__ import annotations

from dataclasses import dataclass

from flask import request
from werkzeug.http import parse_dict_header

from core.text.integers import bounded_integer


@dataclass(frozen=True, slots=True)
class Preferences:
    """`respond-async` requests a 202 at once, `wait` a 202 after a number of seconds."""

    is_async: bool
    wait_seconds: float

    @property
    def applied(self) -> dict[str, str]:
        """The header that names the applied preference."""
        if self.is_async:
            return {"Preference-Applied": "respond-async"}
        return {}


def read_preferences(max_wait_seconds: float) -> Preferences:
    """Return the preferences of the current request; unknown ones are ignored."""
    given = parse_dict_header(request.headers.get("Prefer", ""))
    return Preferences(
        is_async="respond-async" in given,
        wait_seconds=min(_seconds(given.get("wait"), max_wait_seconds), max_wait_seconds),
    )


def _seconds(text: str | None, default: float) -> float:
    seconds = bounded_integer(text or "")
    return default if seconds is None else float(seconds)
