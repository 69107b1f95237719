"""The header `Server-Timing`: time of the page, and time and count of its statements."""

from __future__ import annotations

import time
from contextlib import ExitStack

from flask import Flask, Response, g

from models.database.statement_count import counting_statements


def register_server_timing(app: Flask) -> None:
    """Add the header to every response; call it before other handlers are registered."""
    app.before_request(_begin)
    app.after_request(_add_header)
    app.teardown_request(_end)


def _begin() -> None:
    g.started_at = time.monotonic()
    g.counting = ExitStack()
    g.statements = g.counting.enter_context(counting_statements())


def _add_header(response: Response) -> Response:
    if "started_at" in g:
        total = (time.monotonic() - g.started_at) * 1000
        count = g.statements
        response.headers["Server-Timing"] = (
            f"total;dur={total:.1f}, "
            f'db;dur={count.seconds * 1000:.1f};desc="{count.statements} statements"'
        )
    return response


def _end(error: BaseException | None) -> None:
    counting = g.pop("counting", None)
    if counting is not None:
        counting.close()
