"""Batches as their owners see them: one, a list, and counts of running lines."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from models.batches.batch import Batch
from models.jobs.job import Job, JobState


def existing_batches() -> Select[Batch]:
    """Return the query for batches that retention is not deleting.

    Retention deletes the lines of a batch first, a few at a time, so the batch is incomplete.
    """
    return select(Batch).where(Batch.lines_deleted_at.is_(None))


def find_batch(session: Session, batch_id: UUID) -> Batch | None:
    return session.scalar(existing_batches().where(Batch.id == batch_id))


def count_running(session: Session, batch_ids: Collection[UUID]) -> dict[UUID, int]:
    """Return the number of running lines of each batch; omit batches without any.

    Reads only released lines, so the length of the batches does not matter.
    """
    if not batch_ids:
        return {}
    runs = func.count().filter(Job.state == JobState.RUNNING)
    rows = session.execute(
        select(Job.batch_id, runs)
        .where(
            # PostgreSQL uses the index of released lines only for the index's own condition.
            Job.batch_id.in_(batch_ids),
            ~Job.is_held,
            Job.state.in_([JobState.QUEUED, JobState.RUNNING]),
        )
        .group_by(Job.batch_id)
    )
    return {batch_id: count for batch_id, count in rows if batch_id is not None and count}
