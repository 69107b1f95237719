"""Who is signed in, and that a form came from our own page."""

from __future__ import annotations

import hmac
import secrets
from uuid import UUID

from flask import Flask, abort, request, session

from core.ids import Prefix, read_id, show_id
from models.base import Session
from models.user import User, find_user

_USER, _VERSION, _CSRF = "user", "version", "csrf"


def sign_in_as(user: User) -> None:
    """Begin a new browser session for this user."""
    session.clear()
    session.permanent = True
    session[_USER] = show_id(Prefix.USER, user.id)
    session[_VERSION] = user.token_version


def sign_out() -> None:
    session.clear()


def signed_in_admin(database: Session) -> User | None:
    """Return the admin whose session this is; a password change ends every session before it."""
    user_id: UUID | None = read_id(Prefix.USER, session.get(_USER, ""))
    user = find_user(database, user_id) if user_id else None
    if user is None or not user.is_admin or user.token_version != session.get(_VERSION):
        return None
    return user


def csrf_token() -> str:
    """Return the token that each form of this session carries."""
    if _CSRF not in session:
        session[_CSRF] = secrets.token_urlsafe(32)
    return str(session[_CSRF])


def register_csrf(app: Flask) -> None:
    """Refuse every change that does not carry the session's token."""
    app.before_request(_check_csrf)


def _check_csrf() -> None:
    if request.method in {"GET", "HEAD", "OPTIONS"}:
        return
    expected = session.get(_CSRF, "")
    given = request.form.get("csrf_token", "")
    if not expected or not hmac.compare_digest(expected.encode(), given.encode()):
        abort(400, "the form has expired, reload the page")
