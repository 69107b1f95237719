"""Changes of jobs by programs other than the worker that holds them.

Callers cancel jobs; the reaper ends or requeues jobs without a worker. The reaper skips locked
rows until its next pass. The holder of a lock is about to change the job, and two reapers must not
wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import case, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.database.arrays import is_among
from models.jobs.job import Job, JobState, may_become, values_of
from models.jobs.outcome import JobOutcome

#: The end of a job that ends now, by the clock of the database: never before the job's creation.
#: Clocks of other machines may be wrong by hours, and the roll-ups of past hours are closed.
END_TIME = func.greatest(func.now(), Job.created_at)


def change_conditions(new: JobState, old: JobState) -> list[Any]:
    """Return the conditions for a change from `old` to `new`.

    Raises `ValueError` if the change is not allowed.
    """
    if not may_become(old, new):
        raise ValueError(f"a job cannot go from {old} to {new}")
    return [Job.state == old]


def requeue(*conditions: Any) -> Any:
    """Return the statement that requeues running jobs and returns them."""
    return (
        update(Job)
        .where(
            *change_conditions(JobState.QUEUED, JobState.RUNNING),
            Job.cancel_requested_at.is_(None),
            *conditions,
        )
        .values(state=JobState.QUEUED, worker_id=None, lease_expires_at=None)
        .returning(Job)
        .execution_options(populate_existing=True)
    )


def finish_job(
    session: Session,
    job_id: UUID,
    *,
    attempt: int | None,
    outcome: JobOutcome,
    worker_id: str | None = None,
    is_silent: bool = False,
) -> Job | None:
    """End a running or a queued job.

    Args:
        attempt: the attempt of a running job; `None` for a queued job.
        worker_id: end the job only if this worker holds it.
        is_silent: end the job only if its lease has expired.

    Returns `None`, and changes nothing, if the job no longer meets these conditions.
    """
    came_from = JobState.QUEUED if attempt is None else JobState.RUNNING
    where = [Job.id == job_id, *change_conditions(outcome.state, came_from)]
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
            finished_at=END_TIME,
            lease_expires_at=None,
        )
        .returning(Job)
        .execution_options(populate_existing=True)
    )


def _first_token_at(outcome: JobOutcome) -> Any:
    """Return when the first token came, by the database's clock, which dates ends."""
    age = outcome.first_token_age
    return None if age is None else func.now() - timedelta(seconds=age)


def request_cancel(session: Session, job_ids: Sequence[UUID]) -> list[Job]:
    """Cancel queued jobs, and record a cancel request for running ones.

    One statement does both, so that it does not miss a job that returns to the queue meanwhile.
    """
    change_conditions(JobState.CANCELLED, JobState.QUEUED)
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
            .where(is_among(Job.id, found))
            .values(
                state=case((is_queued, JobState.CANCELLED), else_=Job.state),
                finished_at=case((is_queued, END_TIME), else_=Job.finished_at),
                cancel_requested_at=case(
                    (is_queued, Job.cancel_requested_at),
                    else_=func.coalesce(Job.cancel_requested_at, func.now()),
                ),
            )
            .returning(Job)
            .execution_options(populate_existing=True, synchronize_session=False)
        )
    )


def insert_cancelled_jobs(session: Session, jobs: Sequence[Job]) -> list[Job]:
    """Insert jobs as cancelled, so that a delayed insert of the same ids fails.

    Returns the inserted jobs; the others existed.
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


def request_text(session: Session, job_id: UUID) -> None:
    """Record that a client follows a job's text, so that its worker publishes it."""
    session.execute(
        update(Job)
        .where(Job.id == job_id, Job.is_streamed.is_(False), Job.finished_at.is_(None))
        .values(is_streamed=True)
        .execution_options(synchronize_session=False)
    )


def expire_queued(session: Session, *, limit: int, offset: int = 0) -> list[Job]:
    """End jobs on the queue whose expiry passed before they began.

    The dispatcher ends held lines, see `models/execution/line_ends.py`.
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
            .where(is_among(Job.id, due), *change_conditions(JobState.EXPIRED, JobState.QUEUED))
            .values(state=JobState.EXPIRED, finished_at=END_TIME)
            .returning(Job)
            .execution_options(populate_existing=True)
        )
    )


def requeue_silent_jobs(session: Session, *, max_attempts: int, limit: int) -> list[Job]:
    """Requeue jobs with an expired lease that may run again.

    They have attempts left and no cancel request.
    """
    may_begin = (Job.attempt < max_attempts, Job.cancel_requested_at.is_(None))
    return list(session.scalars(requeue(*_lease_ran_out(*may_begin, limit=limit))))


def list_abandoned_jobs(
    session: Session, *, max_attempts: int, limit: int, offset: int = 0
) -> list[Job]:
    """Return jobs with an expired lease that must not run again.

    Their last attempt is over, or a client requested their cancellation. Changes nothing.
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
    return [is_among(Job.id, silent), *is_silent]
