"""Forms while they come: each must arrive in time, and only some may be large.

The file of a form goes to disk while it comes; memory holds a piece of it. A thread takes apart the
fields of a form with a prompt: megabytes of them take seconds.
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

_TAKES_FILE, _TAKES_PROMPT = "bountycoder_takes_file", "bountycoder_takes_prompt"
#: What a form has without a prompt, or beside its file.
FORM_BYTES = 64 * 1024


def takes_file(view: View) -> View:
    """Let the form of a view bring a file as large as that of a batch."""
    setattr(view, _TAKES_FILE, True)
    return view


def takes_prompt(view: View) -> View:
    """Let the form of a view be as large as a request with a prompt."""
    setattr(view, _TAKES_PROMPT, True)
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
    has_prompt = getattr(view, _TAKES_PROMPT, False)
    if request.method == "POST" and getattr(view, _TAKES_FILE, False):
        seconds = settings.upload_seconds
        request.max_content_length = settings.max_batch_bytes + FORM_BYTES
    elif not has_prompt:
        request.max_content_length = FORM_BYTES
    # Who is signed in has been read; a form that comes slowly keeps no connection until it is here.
    database().close()
    try:
        with at_most(seconds):
            if has_prompt:
                request.get_data(parse_form_data=False)
            else:
                request.form  # noqa: B018 - reading it is receiving it
    except TimeoutError:
        raise RequestTimeout from None
    if has_prompt:
        received = request._get_current_object()  # type: ignore[attr-defined]
        run_blocking(lambda: received.form)
