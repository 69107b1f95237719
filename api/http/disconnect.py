"""Whether the client of the present request is still there."""

from __future__ import annotations

import socket
from collections.abc import Callable

from flask import Response, g, jsonify, request

from core.errors import ApiError
from core.web.disconnect import CONNECTION, HangUp, say

#: Changes no answer (RFC 9110, section 15.2): clients pass over it, also where none is expected.
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def present_hang_up() -> HangUp:
    """Return the connection of a request that has no answer yet.

    One of HTTP/1.0 that closes its sending side is taken for gone: it knows no `100 Continue`.
    """
    connection: socket.socket | None = request.environ.get(CONNECTION)
    if connection is None or request.environ.get("SERVER_PROTOCOL") != "HTTP/1.1":
        return HangUp(connection)
    return HangUp(connection, ask=lambda: say(connection, _CONTINUE))


def hang_up_of_stream(ask: Callable[[], None]) -> HangUp:
    """Return the connection of a request that is answered piece by piece; `ask` sends one soon."""
    return HangUp(request.environ.get(CONNECTION), ask=ask)


def client_has_gone() -> Response:
    """Return the answer to a client that has gone: the log shows it, and perhaps a proxy's."""
    error = ApiError("the client closed its connection", code="client_closed_request")
    response = jsonify(error.body(g.request_id))
    response.status = "499 Client Closed Request"
    return response
