"""The results of a batch as a file, read from the database while it is sent.

Each page is a separate short read: a slow client holds only a greenlet.
"""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Callable, Collection, Iterator
from typing import Any
from uuid import UUID

from core.concurrency.greenlets import Yielder
from core.ids import Prefix, format_id
from core.web.disconnect import ClientConnection
from models.batches.results import read_results
from models.database.prepared import Statements
from models.jobs.job import Job, JobState
from models.jobs.serializer import has_completion, serialize_completion

#: The error of a line whose completion retention has deleted.
TEXTS_DELETED = {
    "code": "texts_deleted",
    "message": "the completion was deleted when its retention time was over",
}

_log = logging.getLogger(__name__)

#: Bytes of one write.
WRITE_BYTES = 64 * 1024


class ResultFile:
    """The lines after line `after` that ended in one of `states`, in their order.

    The constructor raises one of `DATABASE_AWAY` if the first page cannot be read. If a later page
    cannot be read, the connection breaks: a partial response must not look complete.
    """

    def __init__(
        self,
        statements: Statements,
        batch_id: UUID,
        *,
        after: int,
        states: Collection[JobState],
        connection: ClientConnection,
        ends_with_connection: bool,
        show: Callable[[Job], dict[str, Any]] | None = None,
    ) -> None:
        self._statements = statements
        self._batch_id = batch_id
        self._states = states
        self._connection = connection
        self._ends_with_connection = ends_with_connection
        self._serialize = show or serialize_line
        self._first = self._read(after)

    def __iter__(self) -> Iterator[bytes]:
        yielder = Yielder()
        jobs, self._first = self._first, []
        while jobs:
            buffer = bytearray()
            for job in jobs:
                yielder.yield_if_due()
                text = json.dumps(self._serialize(job), ensure_ascii=False, separators=(",", ":"))
                buffer += text.encode() + b"\n"
                if len(buffer) >= WRITE_BYTES:
                    yield from _pieces(buffer)
                    buffer = bytearray()
            yield from _pieces(buffer)
            jobs = self._next(jobs[-1].line or 0)

    def _next(self, after: int) -> list[Job]:
        try:
            return self._read(after)
        except Exception as error:
            _log.exception("results of %s broke off", format_id(Prefix.BATCH, self._batch_id))
            if self._ends_with_connection:
                self._connection.reset_on_close()
            # The server then closes the response without its end mark, and logs nothing.
            raise ConnectionResetError(errno.ECONNRESET, "the results broke off") from error

    def _read(self, after: int) -> list[Job]:
        return read_results(self._statements, self._batch_id, after=after, states=self._states)


def serialize_line(job: Job) -> dict[str, Any]:
    """Return the result of a line in the native format."""
    return {
        "line": job.line,
        "custom_id": job.custom_id,
        "id": format_id(Prefix.JOB, job.id),
        "status": job.state,
        "result": serialize_completion(job) if has_completion(job) else None,
        "error": TEXTS_DELETED if is_deleted(job) else job.error,
    }


def is_deleted(job: Job) -> bool:
    """Say whether retention has deleted the completion of a line."""
    return job.state == JobState.SUCCEEDED and job.choices is None


def _pieces(data: bytearray) -> Iterator[bytes]:
    view = memoryview(data)
    for start in range(0, len(data), WRITE_BYTES):
        yield bytes(view[start : start + WRITE_BYTES])
