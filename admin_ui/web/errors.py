"""What a person sees when something is wrong: what it is, and what to do."""

from __future__ import annotations

import logging

from flask import Flask, render_template
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, HTTPException

from admin_ui.api_client import ServiceAway, ServiceRefusal
from models.database.base import DATABASE_AWAY, asks_too_much, away_reason

_log = logging.getLogger(__name__)

_TEXTS = {
    400: ("The request is malformed", "Go back, reload the page and try again."),
    404: ("There is nothing here", "It may have been deleted, or it was never yours to see."),
    405: ("There is nothing here", "This address does not take this kind of request."),
    408: (
        "It took too long",
        "What was sent did not arrive in time. Try again; a file may be too large for the line.",
    ),
    413: ("Too large", "What was sent is larger than this service takes."),
}


class FormExpired(BadRequest):
    """A change without the session's token."""


def register_error_handlers(app: Flask) -> None:
    app.register_error_handler(FormExpired, _form_expired)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(ServiceAway, _api_away)
    app.register_error_handler(ServiceRefusal, _refused)
    for error in DATABASE_AWAY:
        app.register_error_handler(error, _database_away)
    app.register_error_handler(Exception, _unexpected)


def show_error(
    status: int, title: str, text: str, *, headers: dict[str, str] | None = None
) -> ResponseReturnValue:
    return render_template("error.html", title=title, text=text), status, headers or {}


def _form_expired(error: Exception) -> ResponseReturnValue:
    return show_error(400, "The form has expired", "Go back, reload the page and send it again.")


def _http_error(error: HTTPException) -> ResponseReturnValue:
    status = error.code or 500
    if status in {301, 302, 303, 307, 308}:
        return error.get_response()
    if status >= 500:
        return _unexpected(error)
    title, text = _TEXTS.get(status, _TEXTS[400])
    # What still comes of a late form must not be taken for a next request.
    headers = {"Connection": "close"} if status == 408 else None
    return show_error(status, title, text, headers=headers)


def _api_away(error: Exception) -> ResponseReturnValue:
    _log.error("the API is away: %s", error)
    text = "Nothing was changed, or it is not known whether it was. Try again in a few seconds."
    return show_error(503, "The API is away", text, headers={"Retry-After": "2"})


def _refused(refusal: ServiceRefusal) -> ResponseReturnValue:
    """Tell a refusal that no form can show."""
    headers = {"Retry-After": str(refusal.retry_after)} if refusal.retry_after else None
    return show_error(refusal.status, "The service refused this", refusal.message, headers=headers)


def _database_away(error: Exception) -> ResponseReturnValue:
    if asks_too_much(error):
        _log.error("a page asks too much of the database: %s", away_reason(error))
        text = "Choose a shorter time or a narrower filter."
        return show_error(503, "This takes too long", text)
    _log.error("the database is away: %s", away_reason(error))
    text = "Nothing is lost. Reload this page in a few seconds."
    return show_error(503, "The database is away", text, headers={"Retry-After": "2"})


def _unexpected(error: Exception) -> ResponseReturnValue:
    # Broad on purpose: whatever happens, a person sees a page and the log the traceback.
    _log.error("unexpected error", exc_info=error)
    text = "It is written in the log of the admin UI. Try again, or tell who runs the service."
    return show_error(500, "Something went wrong on our side", text)
