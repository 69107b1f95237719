"""Lists of jobs: the columns that owners see, and the jobs on a queue."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.jobs.job import Job, JobState

#: The columns of a job in a list.
LISTED_COLUMNS = [c for c in Job.__table__.columns if c.name not in {"request", "choices"}]


class QueuedJob(NamedTuple):
    """A waiting job and its queue."""

    id: UUID
    queue: str


def queued_before(
    session: Session, before: datetime, *, after: UUID | None, limit: int
) -> list[QueuedJob]:
    """Return jobs that have waited since before a time, oldest first.

    Args:
        after: return only jobs after this id.
    """
    query = select(Job.id, Job.queue).where(
        Job.state == JobState.QUEUED, ~Job.is_held, Job.queued_at < before
    )
    if after is not None:
        query = query.where(Job.id > after)
    return [QueuedJob(*row) for row in session.execute(query.order_by(Job.id).limit(limit))]
