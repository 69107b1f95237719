"""Positions in the queue, at a cost that does not depend on the queue's length.

Counting ten thousand rows for each poll of a queued job would cost more than the job. So a process
reads the id of every hundredth queued job, at most once a second. It counts from the last of these
marks before the job. In a queue of less than a hundred jobs, positions are current. In a longer
queue they may be a second old.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from models.database.prepared import Statements
from models.jobs.job import Job

#: Jobs from one mark to the next.
STEP = 100
#: The highest position that is counted.
MAX_POSITION = 10_000
KEEP_SECONDS = 1.0

_WAITING = "state = 'queued' and not is_held and queue = %(queue)s"
_MARKS = f"""
    select id from (
        select id, row_number() over (order by id) as place
        from (
            select id from jobs where {_WAITING} order by id limit {MAX_POSITION}
        ) as waiting
    ) as placed
    where place %% {STEP} = 0 order by id
"""
_COUNT = f"""
    select count(*) from (
        select from jobs
        where {_WAITING} and id > %(after)s::uuid and id < %(before)s::uuid
        limit %(most)s
    ) as waiting
"""
_FIRST = UUID(int=0)


def count_jobs_before(session: Session, job: Job) -> int:
    """Count all jobs before a queued job, up to `MAX_POSITION`."""
    values = _count_values(job, after=_FIRST, most=MAX_POSITION)
    return int(session.connection().exec_driver_sql(_COUNT, values).scalar_one())


class QueuePositions:
    """Positions in the queues, counted from marks that one process shares."""

    def __init__(
        self, statements: Statements, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._statements = statements
        self._clock = clock
        self._marks: dict[str, tuple[float, list[UUID]]] = {}

    def jobs_before(self, job: Job) -> int:
        """Return how many jobs stand before a queued job, up to `MAX_POSITION`.

        Raises one of `DATABASE_AWAY` if the database is away or too slow.
        """
        marks = self._read_marks(job.queue)
        passed = bisect_left(marks, job.id)
        most = MAX_POSITION - passed * STEP
        values = _count_values(job, after=marks[passed - 1] if passed else _FIRST, most=most)
        [(counted,)] = self._statements.run(_COUNT, values) if most else [(0,)]
        return passed * STEP + int(counted)

    def _read_marks(self, queue: str) -> list[UUID]:
        read_at, marks = self._marks.get(queue, (-KEEP_SECONDS, []))
        now = self._clock()
        if now - read_at >= KEEP_SECONDS:
            self._marks[queue] = now, marks  # other threads use the previous marks during this read
            found = self._statements.run(_MARKS, {"queue": queue})
            marks = [mark for (mark,) in found]
            self._marks[queue] = now, marks
        return marks


def _count_values(job: Job, *, after: UUID, most: int) -> dict[str, Any]:
    return {"queue": job.queue, "after": after.hex, "before": job.id.hex, "most": most}
