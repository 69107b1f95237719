"""What the caller of a generation prefers: the `Prefer` header (RFC 7240)."""

from __future__ import annotations

from dataclasses import dataclass

from flask import request
from werkzeug.http import parse_dict_header

from core.parsing import bounded_integer


@dataclass(frozen=True, slots=True)
class Preferences:
    """`respond-async` asks for a 202 at once, `wait` for one after so many seconds."""

    is_async: bool
    wait_seconds: float

    @property
    def applied(self) -> dict[str, str]:
        """The header that tells which preference was followed."""
        if self.is_async:
            return {"Preference-Applied": "respond-async"}
        return {}


def read_preferences(longest_wait: float) -> Preferences:
    """Return the preferences of the present request; what cannot be understood is ignored."""
    given = parse_dict_header(request.headers.get("Prefer", ""))
    return Preferences(
        is_async="respond-async" in given,
        wait_seconds=min(_seconds(given.get("wait"), longest_wait), longest_wait),
    )


def _seconds(text: str | None, default: float) -> float:
    seconds = bounded_integer(text or "")
    return default if seconds is None else float(seconds)
