"""The client of the current request: its connection, and the response if it disconnected."""

from __future__ import annotations

from flask import Response, g, jsonify, request

from core.errors import ApiError
from core.web.disconnect import ClientConnection


def present_connection() -> ClientConnection:
    """Return the connection of the current request, whose response has not begun."""
    return ClientConnection.of_unanswered_request(request.environ)


def client_closed_response() -> Response:
    """Return the response for a client that disconnected; only logs show it."""
    error = ApiError("the client closed its connection", code="client_closed_request")
    response = jsonify(error.body(g.request_id))
    response.status = "499 Client Closed Request"
    return response
