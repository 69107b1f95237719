"""The browser session and its user.

The cookie is signed and contains no secret. Signing out invalidates every copy of the cookie.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from flask import session

from admin_ui.services import services
from admin_ui.session_cookie import remember_session, session_id
from core.ids import Prefix, format_id, parse_id
from models.accounts.session import SessionKind, begin_session, end_session, find_signed_in_user
from models.accounts.user import User
from models.database.base import Session

SESSION_LIFE = timedelta(hours=12)
_USER, _VERSION = "user", "version"
_DEFAULT_PASSWORD = "default_password"  # noqa: S105 - the name of a flag


def sign_in_as(user: User, *, has_default_password: bool = False) -> None:
    """Begin a browser session for this user, and end the previous one."""
    before = session_id()
    with services().sessions.begin() as database:
        if before is not None:
            end_session(database, before)
        new_id = begin_session(database, user.id, SessionKind.PAGE, life=SESSION_LIFE)
    session.clear()
    session.permanent = True
    session[_USER] = format_id(Prefix.USER, user.id)
    session[_VERSION] = user.token_version
    remember_session(new_id)
    session[_DEFAULT_PASSWORD] = has_default_password


def continue_session(user: User) -> None:
    """Keep the browser session valid after its user changed the password."""
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
    """Return the user of the session, or `None` if there is no valid session.

    Signing out, a new password and a new role end a session. The session of a suspended user is
    valid again once an admin reactivates the account.
    """
    user_id: UUID | None = parse_id(Prefix.USER, session.get(_USER, ""))
    version = session.get(_VERSION)
    if user_id is None or not isinstance(version, int):
        return None
    user = find_signed_in_user(database, user_id, version=version, session_id=session_id())
    return user if user is not None and user.is_active else None


def was_signed_in() -> bool:
    """Return whether the cookie is of a session, valid or not."""
    return _USER in session


def has_default_password() -> bool:
    """Return whether the user signed in with the default password."""
    return bool(session.get(_DEFAULT_PASSWORD))
