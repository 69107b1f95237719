"""Turns every error into the JSON of an error; never publishes the text of a driver."""

from __future__ import annotations

import errno
import logging

import redis
from flask import Flask, Response, current_app, g, jsonify, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import HTTPException

from api.services import services
from api.unknown_paths import allowed_methods_message, not_found_message
from core.errors import (
    ApiError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    Unavailable,
    UnsupportedMediaType,
)
from models.database.base import DATABASE_AWAY, away_reason

_log = logging.getLogger(__name__)

#: After this time an operator may have freed resources.
NO_ROOM_SECONDS = 30.0
_NO_ROOM = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),  # the disk is full
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),  # too many open files, or no memory
)

_BY_STATUS: dict[int, tuple[type[ApiError], str]] = {
    413: (PayloadTooLarge, "the body is larger than this service accepts"),
    415: (UnsupportedMediaType, "send JSON with `Content-Type: application/json`"),
}


def register_error_handlers(app: Flask) -> None:
    """Register a handler for each kind of error."""
    app.register_error_handler(ApiError, _respond)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(ParseException, _malformed)
    app.register_error_handler(redis.RedisError, _redis_away)
    app.register_error_handler(OSError, _system_error)
    for error in DATABASE_AWAY:
        app.register_error_handler(error, _database_away)
    app.register_error_handler(Exception, _unexpected)


def _respond(error: ApiError) -> Response:
    services().metrics.error_returned(error)
    response = jsonify(error.body(g.request_id))
    response.status_code = error.status
    response.headers.update(error.headers)
    return response


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    if status >= 500:
        return _unexpected(error)
    response = _respond(_error_of_status(status, error))
    for name, value in error.get_headers():
        if name.lower() == "allow":
            response.headers[name] = value
    return response


def _error_of_status(status: int, error: HTTPException) -> ApiError:
    if status == 404:
        return NotFound(not_found_message(current_app.url_map, request.path))
    if status == 405:
        return MethodNotAllowed(allowed_methods_message(error))
    kind, message = _BY_STATUS.get(status, (InvalidRequest, "the request is malformed"))
    return kind(message)


def _malformed(error: Exception) -> Response:
    """Respond to a broken transfer coding, which the read of the body finds."""
    return _respond(InvalidRequest("the request is malformed"))


def _redis_away(error: Exception) -> Response:
    _log.error("Redis is away: %s", type(error).__name__)
    return _respond(Unavailable("the queue is away, try again soon", code="queue_unavailable"))


def _database_away(error: Exception) -> Response:
    _log.error("the database is away: %s", away_reason(error))
    return _respond(
        Unavailable("the database is away, try again soon", code="database_unavailable")
    )


def _system_error(error: OSError) -> Response:
    """Respond 503 if the machine lacks disk space, memory or file descriptors."""
    if error.errno not in _NO_ROOM:
        return _unexpected(error)
    _log.error("the machine has no resources left: %s", error.strerror)
    message = "the service has no resources for this request now, try again later"
    return _respond(Unavailable(message, retry_after_seconds=NO_ROOM_SECONDS))


def _unexpected(error: Exception) -> Response:
    # Broad on purpose: the caller always gets the JSON of an error, the log gets the traceback.
    _log.error("unexpected error", exc_info=error)
    return _respond(ApiError("the service failed: an unexpected error"))
