"""The answer that carries a batch's results."""

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

#: A client that does not take one piece within this is let go.
WRITE_SECONDS = 30.0


def stream_results(
    statements: Statements,
    batch: Batch,
    place: AbstractContextManager[None],
    *,
    after: int,
    states: Collection[JobState],
) -> Response:
    """Answer with the lines that have ended in `states`, from behind the line `after`.

    Args:
        place: what the client holds while it reads.
    """
    connection = present_connection()
    with ExitStack() as opened:
        opened.enter_context(place)
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
