"""The results of a batch as a file that is read from the database while it is sent.

Each page is a short read of its own: whoever reads slowly holds nothing but a greenlet.
"""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Callable, Collection, Iterator
from typing import Any
from uuid import UUID

from core.concurrency.greenlets import Yielder
from core.ids import Prefix, show_id
from core.web.disconnect import ClientConnection
from models.batches.results import read_results
from models.database.prepared import Statements
from models.jobs.job import Job, JobState
from models.jobs.serializer import has_answer, show_completion

#: What a line says whose answer retention has deleted.
TEXTS_DELETED = {"code": "texts_deleted", "message": "the answer was deleted after its time"}

_log = logging.getLogger(__name__)

#: What is written at once.
WRITE_BYTES = 64 * 1024


class ResultFile:
    """The lines that have ended in `states`, from behind the line `after`, in their order.

    Raises one of `DATABASE_AWAY` where it is made if the first page cannot be read; when a later
    one cannot, the connection breaks: an answer must not look whole that is not.
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
        self._show = show or serialize_line
        self._first = self._read(after)

    def __iter__(self) -> Iterator[bytes]:
        yielder = Yielder()
        jobs, self._first = self._first, []
        while jobs:
            waiting = bytearray()
            for job in jobs:
                yielder.yield_if_due()
                shown = json.dumps(self._show(job), ensure_ascii=False, separators=(",", ":"))
                waiting += shown.encode() + b"\n"
                if len(waiting) >= WRITE_BYTES:
                    yield from _pieces(waiting)
                    waiting = bytearray()
            yield from _pieces(waiting)
            jobs = self._next(jobs[-1].line or 0)

    def _next(self, after: int) -> list[Job]:
        try:
            return self._read(after)
        except Exception as error:
            _log.exception("results of %s broke off", show_id(Prefix.BATCH, self._batch_id))
            if self._ends_with_connection:
                self._connection.reset_on_close()
            # The server ends such an answer without the mark of its end, and says no more of it.
            raise ConnectionResetError(errno.ECONNRESET, "the results broke off") from error

    def _read(self, after: int) -> list[Job]:
        return read_results(self._statements, self._batch_id, after=after, states=self._states)


def serialize_line(job: Job) -> dict[str, Any]:
    """Return what became of a line, in our own shape."""
    is_shown = has_answer(job)
    return {
        "line": job.line,
        "custom_id": job.custom_id,
        "id": show_id(Prefix.JOB, job.id),
        "status": job.state,
        "result": show_completion(job) if is_shown else None,
        "error": TEXTS_DELETED if is_deleted(job) else job.error,
    }


def is_deleted(job: Job) -> bool:
    """Say whether retention has deleted the answer of a line."""
    return job.state == JobState.SUCCEEDED and job.choices is None


def _pieces(data: bytearray) -> Iterator[bytes]:
    view = memoryview(data)
    for start in range(0, len(data), WRITE_BYTES):
        yield bytes(view[start : start + WRITE_BYTES])
