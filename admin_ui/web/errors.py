"""Error pages: what is wrong, and what to do."""

from __future__ import annotations

import logging

from flask import Flask, render_template
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, HTTPException

from admin_ui.api_client import ApiAway, ApiRefusal
from models.database.base import DATABASE_AWAY, away_reason, is_too_expensive

_log = logging.getLogger(__name__)

_TEXTS = {
    400: ("The request is malformed", "Go back, reload the page and try again."),
    404: ("Page not found", "It may have been deleted, or you don't have access."),
    405: ("Page not found", "This address does not accept this kind of request."),
    408: (
        "It took too long",
        "The request did not arrive in time. Try again, perhaps with a smaller file.",
    ),
    413: ("Too large", "The request is larger than this service accepts."),
}


class FormExpired(BadRequest):
    """A change does not contain the CSRF token of the session."""


def register_error_handlers(app: Flask) -> None:
    """Turn every exception into an error page."""
    app.register_error_handler(FormExpired, _form_expired)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(ApiAway, _api_away)
    app.register_error_handler(ApiRefusal, _refused)
    for error in DATABASE_AWAY:
        app.register_error_handler(error, _database_away)
    app.register_error_handler(Exception, _unexpected)


def show_error(
    status: int, title: str, text: str, *, headers: dict[str, str] | None = None
) -> ResponseReturnValue:
    """Return an error page."""
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
    # The rest of a late form must not be parsed as the next request.
    headers = {"Connection": "close"} if status == 408 else None
    return show_error(status, title, text, headers=headers)


def _api_away(error: Exception) -> ResponseReturnValue:
    _log.error("the API is away: %s", error)
    text = "Nothing was changed, or it is unknown whether it was. Try again in a few seconds."
    return show_error(503, "The API is away", text, headers={"Retry-After": "2"})


def _refused(refusal: ApiRefusal) -> ResponseReturnValue:
    """Show an error that the view does not handle."""
    headers = {"Retry-After": str(refusal.retry_after)} if refusal.retry_after else None
    return show_error(
        refusal.status, "The service rejected this request", refusal.message, headers=headers
    )


def _database_away(error: Exception) -> ResponseReturnValue:
    if is_too_expensive(error):
        _log.error("a query of a page takes too long: %s", away_reason(error))
        text = "Choose a shorter time or a narrower filter."
        return show_error(503, "This takes too long", text)
    _log.error("the database is away: %s", away_reason(error))
    text = "Nothing is lost. Reload this page in a few seconds."
    return show_error(503, "The database is away", text, headers={"Retry-After": "2"})


def _unexpected(error: Exception) -> ResponseReturnValue:
    # Broad on purpose: any error gives a page, and a traceback in the log.
    _log.error("unexpected error", exc_info=error)
    text = "The error is in the log of the admin UI. Try again, or contact the operator."
    return show_error(500, "Something went wrong", text)
