"""What the browser's cookie names: the session that tokens and changes of the browser belong to."""

from __future__ import annotations

from uuid import UUID

from flask import session

from core.ids import Prefix, read_id, show_id

_SESSION = "session"


def session_id() -> UUID | None:
    """Return the session's id; cookies of earlier versions have none."""
    return read_id(Prefix.SESSION, session.get(_SESSION, ""))


def name_session(value: UUID) -> None:
    session[_SESSION] = show_id(Prefix.SESSION, value)
