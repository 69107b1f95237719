"""`Server-Timing` of each page: how long it took here, and what of it the database had."""

from __future__ import annotations

import time
from contextlib import ExitStack

from flask import Flask, Response, g

from models.database.statement_count import counting_statements


def register_server_timing(app: Flask) -> None:
    app.before_request(_begin)
    app.after_request(_tell)
    app.teardown_request(_end)


def _begin() -> None:
    g.began = time.monotonic()
    g.counting = ExitStack()
    g.statements = g.counting.enter_context(counting_statements())


def _tell(response: Response) -> Response:
    if "began" in g:
        total = (time.monotonic() - g.began) * 1000
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
