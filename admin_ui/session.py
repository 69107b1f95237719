"""The browser session: whose it is. It holds no secret, and is signed."""

from __future__ import annotations

from uuid import UUID

from flask import session

from core.ids import Prefix, read_id, show_id
from models.base import Session
from models.user import User, find_user

_USER, _VERSION, _DEFAULT_PASSWORD = "user", "version", "default_password"


def sign_in_as(user: User, *, has_default_password: bool = False) -> None:
    """Begin a new browser session for this user."""
    session.clear()
    session.permanent = True
    session[_USER] = show_id(Prefix.USER, user.id)
    session[_VERSION] = user.token_version
    session[_DEFAULT_PASSWORD] = has_default_password


def sign_out() -> None:
    session.clear()


def signed_in_user(database: Session) -> User | None:
    """Return whose session this is; a new password or role ends every session before it.

    A suspended user has none until an admin lifts that.
    """
    user_id: UUID | None = read_id(Prefix.USER, session.get(_USER, ""))
    user = find_user(database, user_id) if user_id else None
    if user is None or not user.is_active or user.token_version != session.get(_VERSION):
        return None
    return user


def was_signed_in() -> bool:
    """Say whether somebody signed in here whose session has ended since."""
    return _USER in session


def has_default_password() -> bool:
    """Say whether this session was begun with the password that everybody knows."""
    return bool(session.get(_DEFAULT_PASSWORD))
