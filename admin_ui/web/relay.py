"""Passes an answer of the API on to the browser while it comes.

The browser never sees the token that it was asked for with. When the browser goes away, the API
hears of it at once: it cancels what nobody reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack

from flask import Response, request

from admin_ui.api_client import ServiceStream
from core.web.disconnect import ClientConnection

#: A browser that takes nothing for this long is let go.
WRITE_SECONDS = 30.0


def relay(
    opening: AbstractContextManager[ServiceStream],
    *,
    mimetype: str,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Answer with what the API answers, piece by piece. `opening` is of `api()`: this may take
    minutes, and nothing is read any more.

    Raises:
        ServiceRefusal: the API's own error.
        ServiceAway: there was no answer.
    """
    connection = ClientConnection.of_request(request.environ)
    with ExitStack() as opened:
        stream = opened.enter_context(opening)
        opened.enter_context(connection.watched(stream.give_up))
        opened.enter_context(connection.write_timeout(WRITE_SECONDS))
        response = Response(stream.pieces(), mimetype=mimetype, headers=headers)
        response.headers["x-accel-buffering"] = "no"
        response.call_on_close(opened.pop_all().close)
    return response
