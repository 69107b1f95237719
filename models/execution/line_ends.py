"""Ends of batch lines that no worker writes.

These are lines of batches that end, and lines that may not run. One SQL statement ends thousands of
held lines: they have cost nothing, and no worker knows them. No statement waits for the row of a
job: it leaves locked rows for the next pass.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from models.batches.batch import Batch
from models.batches.dispatch import HELD, LINE_TOKENS
from models.database.arrays import is_among
from models.execution.batch_progress import raise_totals
from models.execution.completion import record_ends
from models.jobs.job import Job, JobState
from models.jobs.transitions import END_TIME, change_conditions, request_cancel
from models.webhooks.webhook import add_deliveries

#: The most lines that end in one transaction.
CHUNK = 2000

_END_HELD = f"""
    with checked as (
        select id, line, %(room)s::bigint is null or {LINE_TOKENS} > %(room)s::bigint as must_end
        from jobs
        where batch_id = %(batch_id)s and {HELD} and line > %(after)s
        order by line limit %(limit)s
        for update skip locked
    ), ended as (
        update jobs set state = %(state)s, error = %(error)s::jsonb,
            finished_at = greatest(now(), created_at)
        from checked
        where jobs.id = checked.id and checked.must_end
        returning jobs.id, jobs.request ? 'webhookUrl' as has_webhook
    )
    select array(select id from ended), array(select id from ended where has_webhook),
           (select count(*) from checked), (select max(line) from checked)
"""


_HOLD_BACK = """
    with released as (
        select id, state from jobs
        where batch_id = %(batch_id)s and not is_held and state in ('queued', 'running')
          and cancel_requested_at is null
        order by id limit %(limit)s
        for no key update skip locked
    )
    update jobs set state = 'queued', is_held = true, released_at = null, charged_tokens = 0,
        worker_id = null, lease_expires_at = null, started_at = null, first_token_at = null
    from released where jobs.id = released.id
    returning jobs.id, jobs.api_key_id, released.state = 'running'
"""


@dataclass(frozen=True, slots=True)
class HeldLineEnds:
    """The result of one pass over held lines.

    Attributes:
        ids: the jobs of the ended lines.
        checked: the number of checked lines; fewer than the limit if no others are left.
        last_line: the last checked line; 0 without any.
    """

    ids: list[UUID]
    checked: int
    last_line: int


def end_held_lines(
    session: Session,
    batch_id: UUID,
    state: JobState,
    *,
    error: dict[str, Any] | None = None,
    after: int = 0,
    room: int | None = None,
    limit: int = CHUNK,
) -> HeldLineEnds:
    """Check the next held lines of a batch and end them.

    Args:
        after: check only lines after this one.
        room: end only lines that may use more tokens than this; `None` ends all.
    """
    change_conditions(state, JobState.QUEUED)
    values = {
        "batch_id": str(batch_id),
        "state": state,
        "error": json.dumps(error) if error is not None else None,
        "after": after,
        "room": room,
        "limit": limit,
    }
    row = session.connection().exec_driver_sql(_END_HELD, values).one()
    ids, with_webhook, checked, last_line = row
    if with_webhook:
        add_deliveries(session, session.scalars(select(Job).where(Job.id.in_(with_webhook))).all())
    if ids:
        raise_totals(session, {batch_id: {state: len(ids)}})
    return HeldLineEnds([UUID(str(job_id)) for job_id in ids], checked, last_line or 0)


def expire_held_lines(session: Session, *, limit: int = CHUNK) -> list[Job]:
    """End due held lines whose own expiry comes before that of their batch."""
    due = (
        select(Job.id)
        .join(Batch, Batch.id == Job.batch_id)
        .where(Job.state == JobState.QUEUED, Job.is_held, Job.expires_at < func.now())
        .where(Job.expires_at < Batch.expires_at)
        .order_by(Job.expires_at)
        .limit(limit)
        .with_for_update(of=Job, skip_locked=True)
    )
    return _expire(session, is_among(Job.id, due))


def expire_released_lines(session: Session, batch_id: UUID, *, limit: int = CHUNK) -> list[Job]:
    """Expire released lines of a batch that have not begun."""
    waiting = _released(batch_id, Job.state == JobState.QUEUED, Job.started_at.is_(None))
    return _expire(session, is_among(Job.id, waiting.limit(limit)))


def cancel_released_lines(session: Session, batch_id: UUID, *, limit: int = CHUNK) -> list[Job]:
    """Cancel queued released lines, and request the cancellation of running ones.

    Returns the jobs with their new state, without those whose cancellation was requested before.
    """
    states = [JobState.QUEUED, JobState.RUNNING]
    ids = session.scalars(
        _released(batch_id, Job.state.in_(states), Job.cancel_requested_at.is_(None)).limit(limit)
    ).all()
    if not ids:
        return []
    cancelled = request_cancel(session, ids)
    record_ends(session, [job for job in cancelled if job.is_final])
    return cancelled


@dataclass(frozen=True, slots=True)
class LineHeldBack:
    """A line that was released and is held again."""

    id: UUID
    api_key_id: UUID
    was_running: bool


def hold_lines_back(session: Session, batch_id: UUID, *, limit: int = CHUNK) -> list[LineHeldBack]:
    """Hold released lines of a batch again, including running ones.

    The lines are no longer charged. The interrupted attempt still counts, so the end that its
    worker reports is rejected.
    """
    change_conditions(JobState.QUEUED, JobState.RUNNING)
    values = {"batch_id": str(batch_id), "limit": limit}
    rows = session.connection().exec_driver_sql(_HOLD_BACK, values)
    return [
        LineHeldBack(UUID(str(job_id)), UUID(str(key_id)), *rest) for job_id, key_id, *rest in rows
    ]


def _expire(session: Session, condition: Any) -> list[Job]:
    expired = list(
        session.scalars(
            update(Job)
            .where(condition, *change_conditions(JobState.EXPIRED, JobState.QUEUED))
            .values(state=JobState.EXPIRED, finished_at=END_TIME)
            .returning(Job)
            .execution_options(populate_existing=True, synchronize_session=False)
        )
    )
    record_ends(session, expired)
    return expired


def _released(batch_id: UUID, *conditions: Any) -> Any:
    return (
        select(Job.id)
        .where(Job.batch_id == batch_id, ~Job.is_held, *conditions)
        .order_by(Job.id)
        .with_for_update(skip_locked=True)
    )
