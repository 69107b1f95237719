"""Detects that a form was sent twice.

A browser that reloads a response with a secret sends the form again.
"""

from __future__ import annotations

import secrets

from flask import request, session

_SENT = "sent"
#: Ids that the cookie has space for.
_MAX_IDS = 8


def new_form_id() -> str:
    """Return a new value for the form field `form_id`."""
    return secrets.token_urlsafe(9)


def was_sent() -> bool:
    """Return whether this session has sent the form of this request before."""
    return _form_id() in session.get(_SENT, ())


def note_sent() -> None:
    """Remember that the form of this request was processed."""
    if _form_id():
        session[_SENT] = [*session.get(_SENT, ()), _form_id()][-_MAX_IDS:]


def _form_id() -> str:
    return request.form.get("form_id", "")[:32]
