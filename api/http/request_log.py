"""Gives each request an id, and writes one log line at its end."""

from __future__ import annotations

import logging
import re
import time
from uuid import UUID

from flask import Flask, Response, g, request

from api.http.caller_address import caller_address
from core.ids import Prefix, format_id, new_id
from core.observability.logs import request_id

_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_QUIET_PATHS = frozenset({"/health", "/healthz", "/readyz"})

_log = logging.getLogger(__name__)


def register_request_log(app: Flask) -> None:
    """Log each request of `app`."""
    app.before_request(_begin)
    app.after_request(_end)


def log_caller(*, user_id: UUID, key_id: UUID | None = None) -> None:
    """Add the caller to the log line of the current request.

    Call it as soon as the caller is known, so that the line of a refused request has it too.
    """
    g.logged_caller = {"user": user_id.hex} | ({"key": key_id.hex} if key_id else {})


def _begin() -> None:
    given = request.headers.get("x-request-id", "")
    sane = _SANE_REQUEST_ID.fullmatch(given)
    g.request_id = given if sane else format_id(Prefix.REQUEST, new_id())
    g.began_at = time.perf_counter()
    request_id.set(g.request_id)


def _end(response: Response) -> Response:
    response.headers["x-request-id"] = g.request_id
    level = logging.DEBUG if request.path in _QUIET_PATHS else logging.INFO
    if not _log.isEnabledFor(level):
        return response
    _log.log(
        level,
        "request",
        extra={
            "method": request.method,
            "route": request.url_rule.rule if request.url_rule else None,
            "status": response.status_code,
            "ms": round((time.perf_counter() - g.began_at) * 1000, 1),
            "address": caller_address(),
            **g.get("logged_caller", {}),
        },
    )
    return response
