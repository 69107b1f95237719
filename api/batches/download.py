"""Streams the results of a batch as a response."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager, ExitStack

from flask import Response, request

from api.batches.results import ResultFile
from api.http.disconnect import present_connection
from api.openapi.response import JSONL
from models.batches.batch import Batch
from models.database.prepared import Statements
from models.jobs.job import JobState

#: Seconds that the write of one piece may take before the connection is closed.
WRITE_SECONDS = 30.0


def stream_results(
    statements: Statements,
    batch: Batch,
    slot: AbstractContextManager[None],
    *,
    after: int,
    states: Collection[JobState],
) -> Response:
    """Return a response with the lines after line `after` that ended in one of `states`.

    Args:
        slot: held while the client reads.
    """
    connection = present_connection()
    with ExitStack() as opened:
        opened.enter_context(slot)
        lines = ResultFile(
            statements,
            batch.id,
            after=after,
            states=states,
            connection=connection,
            ends_with_connection=request.environ.get("SERVER_PROTOCOL") == "HTTP/1.0",
        )
        opened.enter_context(connection.write_timeout(WRITE_SECONDS))
        response = Response(iter(lines), mimetype=JSONL)
        response.headers["x-batch-status"] = batch.state
        response.headers["x-accel-buffering"] = "no"
        response.call_on_close(opened.pop_all().close)
    return response
