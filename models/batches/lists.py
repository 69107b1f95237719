"""Batches as their owners see them: one, a list, and what runs of them."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from models.batches.batch import Batch, BatchState
from models.jobs.job import Job, JobState


def there() -> Select[Batch]:
    """Return the query for batches that exist for anyone: not those that retention is deleting.

    Their lines go first, a few at a time: what is left of one is no batch any more.
    """
    return select(Batch).where(Batch.lines_deleted_at.is_(None))


def find_batch(session: Session, batch_id: UUID) -> Batch | None:
    return session.scalar(there().where(Batch.id == batch_id))


def list_batches(
    session: Session,
    *,
    user_id: UUID | None,
    state: BatchState | None = None,
    has_endpoint: bool = False,
    after: UUID | None,
    limit: int,
) -> list[Batch]:
    """Return batches, newest first, of one user or of all, from before the id `after`.

    Args:
        has_endpoint: only those whose lines speak OpenAI's language.
    """
    query = there()
    if user_id is not None:
        query = query.where(Batch.user_id == user_id)
    if state is not None:
        query = query.where(Batch.state == state)
    if has_endpoint:
        query = query.where(Batch.endpoint.is_not(None))
    if after is not None:
        query = query.where(Batch.id < after)
    return list(session.scalars(query.order_by(Batch.id.desc()).limit(limit)))


def count_running(session: Session, batch_ids: Collection[UUID]) -> dict[UUID, int]:
    """Return how many lines of each batch run now; one without any is left out.

    Only what the feeder has released is looked at, however long the batches are.
    """
    if not batch_ids:
        return {}
    runs = func.count().filter(Job.state == JobState.RUNNING)
    rows = session.execute(
        select(Job.batch_id, runs)
        .where(
            # In the words of the index of what was released: no other will do.
            Job.batch_id.in_(batch_ids),
            ~Job.is_held,
            Job.state.in_([JobState.QUEUED, JobState.RUNNING]),
        )
        .group_by(Job.batch_id)
    )
    return {batch_id: count for batch_id, count in rows if batch_id is not None and count}
