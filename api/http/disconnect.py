"""The client of the present request: its connection, and the response if it disconnected."""

from __future__ import annotations

from flask import Response, g, jsonify, request

from core.errors import ApiError
from core.web.disconnect import ClientConnection


def present_connection() -> ClientConnection:
    """Return the connection of the present request, whose response has not begun."""
    return ClientConnection.of_unanswered_request(request.environ)


def client_has_gone() -> Response:
    """Return the answer to a client that has gone: the log shows it, and perhaps a proxy's."""
    error = ApiError("the client closed its connection", code="client_closed_request")
    response = jsonify(error.body(g.request_id))
    response.status = "499 Client Closed Request"
    return response
