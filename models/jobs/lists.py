"""Lists of jobs: what their owners see, and what waits."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.jobs.job import Job, JobState

#: What a list shows of a job.
LISTED_COLUMNS = [c for c in Job.__table__.columns if c.name not in {"request", "choices"}]


class QueuedJob(NamedTuple):
    """A job that waits, and the line that it waits in."""

    id: UUID
    queue: str


def queued_before(
    session: Session, before: datetime, *, after: UUID | None, limit: int
) -> list[QueuedJob]:
    """Return jobs that could be sent before a time, oldest first, from beyond the id `after`."""
    query = select(Job.id, Job.queue).where(
        Job.state == JobState.QUEUED, ~Job.is_held, Job.queued_at < before
    )
    if after is not None:
        query = query.where(Job.id > after)
    return [QueuedJob(*row) for row in session.execute(query.order_by(Job.id).limit(limit))]
