"""Forms that bring a file: they may be larger than others, and must arrive in time.

The file of a form goes to disk while it comes; memory holds a piece of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flask import Flask, current_app, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import RequestTimeout

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
    """Receive such forms before anything reads them: register it before the check of the token."""
    app.before_request(_receive)


def _receive() -> None:
    view = current_app.view_functions.get(request.endpoint or "")
    if request.method != "POST" or not getattr(view, _ATTRIBUTE, False):
        return
    settings = services().settings
    request.max_content_length = settings.max_batch_bytes + FORM_BYTES
    try:
        with at_most(settings.upload_seconds):
            request.form  # noqa: B018 - reading it is receiving it
    except TimeoutError:
        raise RequestTimeout from None
