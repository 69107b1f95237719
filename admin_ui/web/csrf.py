"""Protects forms against cross-site request forgery (CSRF)."""

from __future__ import annotations

import hmac
import secrets

from flask import Flask, request, session

from admin_ui.web.errors import FormExpired

_TOKEN = "csrf"  # noqa: S105 - no secret
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def csrf_token() -> str:
    """Return the token that each form of this session contains."""
    if _TOKEN not in session:
        session[_TOKEN] = secrets.token_urlsafe(32)
    return str(session[_TOKEN])


def register_csrf(app: Flask) -> None:
    """Reject changes without the session's token in a form field or a header."""
    app.before_request(_check)
    app.jinja_env.globals["csrf_token"] = csrf_token


def _check() -> None:
    if request.method in SAFE_METHODS:
        return
    expected = session.get(_TOKEN, "")
    given = request.headers.get("X-CSRF-Token") or request.form.get("csrf_token", "")
    if not expected or not hmac.compare_digest(expected.encode(), given.encode()):
        raise FormExpired
