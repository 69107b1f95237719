"""Forms while they come: each must arrive in time, and those that bring a file may be larger.

The file of a form goes to disk while it comes; memory holds a piece of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flask import Flask, current_app, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import RequestTimeout

from admin_ui.csrf import SAFE_METHODS
from admin_ui.page import database
from admin_ui.services import services
from core.blocking import at_most

View = TypeVar("View", bound=Callable[..., ResponseReturnValue])

_ATTRIBUTE = "bountycoder_takes_file"
#: What a form has beside its file.
FORM_BYTES = 64 * 1024


def takes_file(view: View) -> View:
    """Let the form of a view bring a file as large as that of a batch."""
    setattr(view, _ATTRIBUTE, True)
    return view


def register_uploads(app: Flask) -> None:
    """Receive forms: register it after the check of who sends one, before that of the token."""
    app.before_request(_receive)


def _receive() -> None:
    if request.method in SAFE_METHODS:
        return
    settings = services().settings
    seconds = settings.body_seconds
    view = current_app.view_functions.get(request.endpoint or "")
    if request.method == "POST" and getattr(view, _ATTRIBUTE, False):
        seconds = settings.upload_seconds
        request.max_content_length = settings.max_batch_bytes + FORM_BYTES
    # Who is signed in has been read; a form that comes slowly keeps no connection until it is here.
    database().close()
    try:
        with at_most(seconds):
            request.form  # noqa: B018 - reading it is receiving it
    except TimeoutError:
        raise RequestTimeout from None
