"""The browser session: whose it is. Its cookie holds no secret, and is signed; after signing out no
copy of the cookie is good.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from flask import session

from admin_ui.services import services
from admin_ui.session_cookie import name_session, session_id
from core.ids import Prefix, read_id, show_id
from models.accounts.session import SessionKind, begin_session, end_session, find_signed_in_user
from models.accounts.user import User
from models.database.base import Session

SESSION_LIFE = timedelta(hours=12)
_USER, _VERSION = "user", "version"
_DEFAULT_PASSWORD = "default_password"  # noqa: S105 - the name of a mark


def sign_in_as(user: User, *, has_default_password: bool = False) -> None:
    """Begin a new browser session for this user; the one before it ends."""
    before = session_id()
    with services().sessions.begin() as database:
        if before is not None:
            end_session(database, before)
        begun = begin_session(database, user.id, SessionKind.PAGE, life=SESSION_LIFE)
    session.clear()
    session.permanent = True
    session[_USER] = show_id(Prefix.USER, user.id)
    session[_VERSION] = user.token_version
    name_session(begun)
    session[_DEFAULT_PASSWORD] = has_default_password


def go_on_as(user: User) -> None:
    """Let the browser session go on after its user has chosen a new password."""
    session[_VERSION] = user.token_version
    session[_DEFAULT_PASSWORD] = False


def sign_out() -> None:
    """End the browser session."""
    ended = session_id()
    if ended is not None:
        with services().sessions.begin() as database:
            end_session(database, ended)
    session.clear()


def signed_in_user(database: Session) -> User | None:
    """Return whose session this is, unless it ended: by signing out, or with a new password or role
    of its user.

    A suspended user has none until an admin lifts that.
    """
    user_id: UUID | None = read_id(Prefix.USER, session.get(_USER, ""))
    version = session.get(_VERSION)
    if user_id is None or not isinstance(version, int):
        return None
    user = find_signed_in_user(database, user_id, version=version, session_id=session_id())
    return user if user is not None and user.is_active else None


def was_signed_in() -> bool:
    """Say whether somebody signed in here whose session has ended since."""
    return _USER in session


def has_default_password() -> bool:
    """Say whether this session was begun with the password that everybody knows."""
    return bool(session.get(_DEFAULT_PASSWORD))
