"""Changes of single jobs by others than the worker that holds them: by their callers, and by those
who look after jobs that nobody holds. The latter leave what is locked for the next time: whoever
has a job locked is about to change it, and two who look after many must not cross.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import case, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.base import is_one_of
from models.job import END_MOMENT, Job, JobOutcome, JobState, may_come, requeue, values_of


def finish_job(
    session: Session,
    job_id: UUID,
    *,
    attempt: int | None,
    outcome: JobOutcome,
    worker_id: str | None = None,
    is_silent: bool = False,
) -> Job | None:
    """End a job: a running one of this `attempt`, or with `attempt=None` a queued one.

    Args:
        worker_id: only if this worker holds it.
        is_silent: only if its lease has run out.

    Returns `None`, and changes nothing, if the job is no longer there to be ended.
    """
    came_from = JobState.QUEUED if attempt is None else JobState.RUNNING
    where = [Job.id == job_id, *may_come(outcome.state, came_from)]
    if attempt is not None:
        where.append(Job.attempt == attempt)
    if worker_id is not None:
        where.append(Job.worker_id == worker_id)
    if is_silent:
        where.append(Job.lease_expires_at < func.now())
    return session.scalar(
        update(Job)
        .where(*where)
        .values(
            state=outcome.state,
            choices=outcome.choices,
            error=outcome.error,
            prompt_tokens=outcome.prompt_tokens,
            completion_tokens=outcome.completion_tokens,
            cached_tokens=outcome.cached_tokens,
            first_token_at=_first_token_at(outcome),
            finished_at=END_MOMENT,
            lease_expires_at=None,
        )
        .returning(Job)
        .execution_options(populate_existing=True)
    )


def _first_token_at(outcome: JobOutcome) -> Any:
    """Return when the first token came, by the clock of the database, which dates the end too."""
    age = outcome.first_token_age
    return None if age is None else func.now() - timedelta(seconds=age)


def ask_to_cancel(session: Session, job_ids: Sequence[UUID]) -> list[Job]:
    """End those of the jobs that are queued, and note that those that run shall end.

    In one statement: a job that goes back to the queue meanwhile is not missed.
    """
    may_come(JobState.CANCELLED, JobState.QUEUED)
    is_queued = Job.state == JobState.QUEUED
    found = (
        select(Job.id)
        .where(Job.id.in_(job_ids), Job.state.in_([JobState.QUEUED, JobState.RUNNING]))
        .order_by(Job.id)
        .with_for_update()
    )
    return list(
        session.scalars(
            update(Job)
            .where(is_one_of(Job.id, found))
            .values(
                state=case((is_queued, JobState.CANCELLED), else_=Job.state),
                finished_at=case((is_queued, END_MOMENT), else_=Job.finished_at),
                cancel_requested_at=case(
                    (is_queued, Job.cancel_requested_at),
                    else_=func.coalesce(Job.cancel_requested_at, func.now()),
                ),
            )
            .returning(Job)
            .execution_options(populate_existing=True, synchronize_session=False)
        )
    )


def forestall_jobs(session: Session, jobs: Sequence[Job]) -> list[Job]:
    """Add jobs as cancelled whose rows may be on their way, so that these find their ids taken.

    Returns those that were added: the others had come.
    """
    rows = [
        {
            **values_of(job),
            "state": JobState.CANCELLED,
            "created_at": func.now(),
            "finished_at": func.now(),
        }
        for job in jobs
    ]
    return list(
        session.scalars(
            insert(Job).values(rows).on_conflict_do_nothing(index_elements=[Job.id]).returning(Job)
        )
    )


def ask_for_text(session: Session, job_id: UUID) -> None:
    """Note that somebody follows the job's text: whoever begins it tells it as it is made."""
    session.execute(
        update(Job)
        .where(Job.id == job_id, Job.is_streamed.is_(False), Job.finished_at.is_(None))
        .values(is_streamed=True)
        .execution_options(synchronize_session=False)
    )


def expire_queued(session: Session, *, limit: int, offset: int = 0) -> list[Job]:
    """End jobs that have not begun in the time that their caller gave them.

    Held lines are the feeder's, see `models/line_ends.py`.
    """
    due = (
        select(Job.id)
        .where(Job.state == JobState.QUEUED, ~Job.is_held, Job.expires_at < func.now())
        .where(Job.started_at.is_(None))
        .order_by(Job.expires_at, Job.id)
        .limit(limit)
        .offset(offset)
        .with_for_update(skip_locked=True)
    )
    return list(
        session.scalars(
            update(Job)
            .where(is_one_of(Job.id, due), *may_come(JobState.EXPIRED, JobState.QUEUED))
            .values(state=JobState.EXPIRED, finished_at=END_MOMENT)
            .returning(Job)
            .execution_options(populate_existing=True)
        )
    )


def requeue_expired(session: Session, *, max_attempts: int, limit: int) -> list[Job]:
    """Return jobs whose worker fell silent to the queue, those with attempts left."""
    may_begin = (Job.attempt < max_attempts, Job.cancel_requested_at.is_(None))
    return list(session.scalars(requeue(*_lease_ran_out(*may_begin, limit=limit))))


def expired_for_good(
    session: Session, *, max_attempts: int, limit: int, offset: int = 0
) -> list[Job]:
    """Return silent jobs whose last attempt it was, or whose end somebody asked for.

    Their worker renewed no lease, and they begin no more. Nothing is changed.
    """
    is_over = or_(Job.attempt >= max_attempts, Job.cancel_requested_at.is_not(None))
    conditions = _lease_ran_out(is_over, limit=limit, offset=offset)
    return list(session.scalars(select(Job).where(*conditions)))


def _lease_ran_out(*conditions: Any, limit: int, offset: int = 0) -> list[Any]:
    is_silent = (Job.state == JobState.RUNNING, Job.lease_expires_at < func.now(), *conditions)
    silent = (
        select(Job.id)
        .where(*is_silent)
        .order_by(Job.lease_expires_at, Job.id)
        .limit(limit)
        .offset(offset)
        .with_for_update(skip_locked=True)
    )
    return [is_one_of(Job.id, silent), *is_silent]
