"""Receives forms: limits their size and the time that they take to arrive.

The file of a form is streamed to disk. A thread parses a form with a prompt, which takes seconds
for megabytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flask import Flask, current_app, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import RequestTimeout

from admin_ui.services import services
from admin_ui.web.csrf import SAFE_METHODS
from admin_ui.web.page import database
from core.concurrency.greenlets import at_most, run_blocking

View = TypeVar("View", bound=Callable[..., ResponseReturnValue])

_HAS_FILE, _HAS_PROMPT = "bountycoder_has_file", "bountycoder_has_prompt"
#: Size limit of a form without a prompt, and of the other fields of a form with a file.
FORM_BYTES = 64 * 1024


def accepts_file(view: View) -> View:
    """Allow the form of a view to contain a file as large as a batch."""
    setattr(view, _HAS_FILE, True)
    return view


def accepts_prompt(view: View) -> View:
    """Allow the form of a view to be as large as a request of the API."""
    setattr(view, _HAS_PROMPT, True)
    return view


def register_uploads(app: Flask) -> None:
    """Receive forms before the view runs.

    Register it after the check of access and before the check of the CSRF token.
    """
    app.before_request(_receive)


def _receive() -> None:
    if request.method in SAFE_METHODS:
        return
    settings = services().settings
    seconds = settings.body_seconds
    view = current_app.view_functions.get(request.endpoint or "")
    has_prompt = getattr(view, _HAS_PROMPT, False)
    if request.method == "POST" and getattr(view, _HAS_FILE, False):
        seconds = settings.upload_seconds
        request.max_content_length = settings.max_batch_bytes + FORM_BYTES
    elif not has_prompt:
        request.max_content_length = FORM_BYTES
    # The check of access has read the user; a slow form must not hold the connection meanwhile.
    database().close()
    try:
        with at_most(seconds):
            if has_prompt:
                request.get_data(parse_form_data=False)
            else:
                request.form  # noqa: B018 - reading it receives it
    except TimeoutError:
        raise RequestTimeout from None
    if has_prompt:
        received = request._get_current_object()  # type: ignore[attr-defined]
        run_blocking(lambda: received.form)
