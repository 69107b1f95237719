"""Every error, whoever raised it, leaves in the contract's one shape; drivers' texts never do."""

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

#: After this long somebody may have made room.
NO_ROOM_SECONDS = 30.0
_NO_ROOM = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),  # no room on a disk
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),  # for no more files, or in memory
)

_BY_STATUS: dict[int, tuple[type[ApiError], str]] = {
    413: (PayloadTooLarge, "the body is larger than this service takes"),
    415: (UnsupportedMediaType, "send JSON with `Content-Type: application/json`"),
}


def register_error_handlers(app: Flask) -> None:
    app.register_error_handler(ApiError, _answer)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(ParseException, _malformed)
    app.register_error_handler(redis.RedisError, _redis_away)
    app.register_error_handler(OSError, _system_error)
    for error in DATABASE_AWAY:
        app.register_error_handler(error, _database_away)
    app.register_error_handler(Exception, _unexpected)


def _answer(error: ApiError) -> Response:
    services().metrics.error_returned(error)
    response = jsonify(error.body(g.request_id))
    response.status_code = error.status
    response.headers.update(error.headers)
    return response


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    if status >= 500:
        return _unexpected(error)
    response = _answer(_told(status, error))
    for name, value in error.get_headers():
        if name.lower() == "allow":
            response.headers[name] = value
    return response


def _told(status: int, error: HTTPException) -> ApiError:
    if status == 404:
        return NotFound(not_found_message(current_app.url_map, request.path))
    if status == 405:
        return MethodNotAllowed(allowed_methods_message(error))
    kind, message = _BY_STATUS.get(status, (InvalidRequest, "the request is malformed"))
    return kind(message)


def _malformed(error: Exception) -> Response:
    """Answer to a body whose transfer coding is broken: it is found when it is read."""
    return _answer(InvalidRequest("the request is malformed"))


def _redis_away(error: Exception) -> Response:
    _log.error("Redis is away: %s", type(error).__name__)
    return _answer(Unavailable("the queue is away, try again soon", code="queue_unavailable"))


def _database_away(error: Exception) -> Response:
    _log.error("the database is away: %s", away_reason(error))
    return _answer(Unavailable("the database is away, try again soon", code="database_unavailable"))


def _system_error(error: OSError) -> Response:
    """Answer to what the machine has no room for: an upload on a full disk, a file too many."""
    if error.errno not in _NO_ROOM:
        return _unexpected(error)
    _log.error("the machine has no room: %s", error.strerror)
    message = "the service has no room for this request now, try again later"
    return _answer(Unavailable(message, retry_after_seconds=NO_ROOM_SECONDS))


def _unexpected(error: Exception) -> Response:
    # Broad on purpose: whatever happens, a caller sees the one shape and the log the traceback.
    _log.error("unexpected error", exc_info=error)
    return _answer(ApiError("something went wrong on our side"))
