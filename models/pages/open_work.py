"""Unfinished work of a user or a key, shown before an admin deletes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from models.batches.batch import Batch
from models.jobs.job import Job, JobState


@dataclass(frozen=True, slots=True)
class OpenWork:
    """Work that has not ended.

    Attributes:
        waiting: queued jobs without batch lines.
        running: running jobs without batch lines.
        batches: open batches; `lines` is the number of their lines that have not ended.
    """

    waiting: int
    running: int
    batches: int
    lines: int


def read_open_work(
    session: Session, *, user_id: UUID | None = None, key_id: UUID | None = None
) -> OpenWork:
    """Return the open work of a user or of one key.

    Reads only open rows, so ended ones cost nothing.
    """
    waiting = _count(_of(Job, user_id, key_id), Job.state == JobState.QUEUED, ~Job.is_held)
    running = _count(_of(Job, user_id, key_id), Job.state == JobState.RUNNING)
    ended = Batch.succeeded + Batch.failed + Batch.cancelled + Batch.expired
    lines = func.coalesce(func.sum(Batch.total - ended), 0)
    conditions = [Batch.finished_at.is_(None), *_of(Batch, user_id, key_id)]
    batches, open_lines = session.execute(select(func.count(), lines).where(*conditions)).one()
    return OpenWork(
        session.scalar(waiting) or 0, session.scalar(running) or 0, batches, int(open_lines)
    )


def _count(owner: list[ColumnElement[bool]], *conditions: ColumnElement[bool]) -> Any:
    # One statement per state: each state has a partial index, which an `in` of both cannot use.
    query = select(func.count()).select_from(Job)
    return query.where(Job.batch_id.is_(None), *conditions, *owner)


def _of(
    table: type[Job] | type[Batch], user_id: UUID | None, key_id: UUID | None
) -> list[ColumnElement[bool]]:
    conditions = []
    if user_id is not None:
        conditions.append(table.user_id == user_id)
    if key_id is not None:
        conditions.append(table.api_key_id == key_id)
    return conditions
