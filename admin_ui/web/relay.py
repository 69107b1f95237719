"""Streams a response of the API to the browser.

The browser never sees the JWT of the call. When the browser disconnects, the connection to the API
is closed at once. The API then cancels the job of a playground.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack

from flask import Response, request

from admin_ui.api_client import ApiStream
from core.web.disconnect import ClientConnection

#: A browser that reads nothing for this long is disconnected.
WRITE_SECONDS = 30.0


def relay(
    opening: AbstractContextManager[ApiStream],
    *,
    mimetype: str,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a response that passes on the chunks of the API's response.

    Args:
        opening: from `api().stream`. A stream takes minutes; `api()` has released the database.

    Raises:
        ApiRefusal: the API rejected the request.
        ApiAway: no response came.
    """
    connection = ClientConnection.of_request(request.environ)
    with ExitStack() as opened:
        stream = opened.enter_context(opening)
        opened.enter_context(connection.watched(stream.abort))
        opened.enter_context(connection.write_timeout(WRITE_SECONDS))
        response = Response(stream.chunks(), mimetype=mimetype, headers=headers)
        response.headers["x-accel-buffering"] = "no"
        response.call_on_close(opened.pop_all().close)
    return response
