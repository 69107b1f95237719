"""Reads of the states of jobs: concurrent reads share one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg2

from core.concurrency.coalescer import Coalescer
from models.database.prepared import Statements
from models.jobs.job import Job, new_job, values_of

#: The most jobs of one statement: a completion may have megabytes.
MOST_JOBS = 32

#: The columns that may change after a job's creation.
_COLUMNS = (
    "state",
    "choices",
    "error",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "attempt",
    "worker_id",
    "started_at",
    "first_token_at",
    "finished_at",
    "cancel_requested_at",
)
_READ = f"select id, {', '.join(_COLUMNS)} from jobs where id = any(%s::uuid[])"

_Row = Sequence[Any]


class JobReads:
    """Reads jobs again; concurrent calls share one statement.

    Args:
        timeout_seconds: the longest time of a statement, and of the wait for a connection.
    """

    def __init__(self, statements: Statements, *, timeout_seconds: float) -> None:
        self._statements = statements
        self._rows: Coalescer[UUID, dict[UUID, _Row]] = Coalescer(
            self._read,
            most=MOST_JOBS,
            seconds=4 * timeout_seconds,
            late=lambda: psycopg2.OperationalError("the database was too busy"),
        )

    def reload(self, job: Job) -> Job:
        """Return a job as its row is now, or unchanged if its row was deleted.

        Raises one of `DATABASE_AWAY` if the database is away or too slow.
        """
        row = self._rows.call(job.id).get(job.id)
        if row is None:
            return job
        return new_job(**{**values_of(job), **dict(zip(_COLUMNS, row, strict=True))})

    def _read(self, ids: Sequence[UUID]) -> list[dict[UUID, _Row]]:
        rows = self._statements.run(_READ, ([job_id.hex for job_id in ids],))
        return [{row[0]: row[1:] for row in rows}] * len(ids)
