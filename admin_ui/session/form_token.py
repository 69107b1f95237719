"""That a form whose answer shows a secret is sent once: reloading that answer sends it again."""

from __future__ import annotations

import secrets

from flask import request, session

_SENT = "sent"
#: As many as fit into the cookie beside the rest.
_MOST_KEPT = 8


def new_form_id() -> str:
    """Return what such a form carries as `form_id`."""
    return secrets.token_urlsafe(9)


def was_sent() -> bool:
    """Say whether this session has sent the form of this request before."""
    return _form_id() in session.get(_SENT, ())


def note_sent() -> None:
    """Remember that the form of this request did what it is for."""
    if _form_id():
        session[_SENT] = [*session.get(_SENT, ()), _form_id()][-_MOST_KEPT:]


def _form_id() -> str:
    return request.form.get("form_id", "")[:32]
