"""The session id in the browser's cookie. Calls to the API carry it, too."""

from __future__ import annotations

from uuid import UUID

from flask import session

from core.ids import Prefix, format_id, parse_id

_SESSION = "session"


def session_id() -> UUID | None:
    """Return the session's id, or `None` for a cookie of an earlier version."""
    return parse_id(Prefix.SESSION, session.get(_SESSION, ""))


def remember_session(value: UUID) -> None:
    """Put a session's id into the cookie."""
    session[_SESSION] = format_id(Prefix.SESSION, value)
