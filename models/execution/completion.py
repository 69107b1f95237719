"""Writes that belong to the transaction that ends a job."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from models.accounts.api_key import ApiKey
from models.accounts.user import User
from models.execution.batch_progress import record_line_ends
from models.jobs.job import Job, JobState
from models.jobs.transitions import request_cancel
from models.usage.usage import record_usages
from models.webhooks.webhook import add_deliveries


def record_end(session: Session, job: Job) -> None:
    """Write the consequences of the end of `job`, see `record_ends`."""
    record_ends(session, [job])


def record_ends(session: Session, jobs: Sequence[Job]) -> None:
    """Write the consequences of the ends of jobs.

    These are webhooks, the totals of batches, and the usage of jobs that had begun. Make it the
    transaction's last statement: see `record_usages`.
    """
    add_deliveries(session, jobs)
    record_line_ends(session, jobs)
    record_usages(session, [job for job in jobs if job.started_at is not None])


def cancel_jobs(session: Session, job_ids: Sequence[UUID]) -> list[Job]:
    """Cancel queued jobs, and request the cancellation of running ones.

    Returns the jobs with their new state, without those that had ended before. The tokens that a
    running job generates until its end count as used.
    """
    cancelled = request_cancel(session, job_ids)
    record_ends(session, [job for job in cancelled if job.is_final])
    return cancelled


def cancel_unusable_jobs(session: Session, *, limit: int) -> list[Job]:
    """Cancel open jobs of inactive or deleted keys and users, running jobs first.

    Leaves batch lines to the dispatcher. Returns the changed jobs, without those whose cancellation
    was requested before.
    """
    is_running = (Job.state == JobState.RUNNING, Job.cancel_requested_at.is_(None))
    job_ids = _unusable(session, *is_running, limit=limit)
    if len(job_ids) < limit:
        is_queued = (Job.state == JobState.QUEUED, ~Job.is_held)
        job_ids += _unusable(session, *is_queued, limit=limit - len(job_ids))
    return cancel_jobs(session, job_ids) if job_ids else []


def _unusable(session: Session, *conditions: ColumnElement[bool], limit: int) -> list[UUID]:
    """Return the ids of open jobs of inactive or deleted keys and users.

    Each state has its partial index.
    """
    has_ended = or_(
        ApiKey.is_active.is_(False),
        ApiKey.deleted_at.is_not(None),
        User.is_active.is_(False),
        User.deleted_at.is_not(None),
    )
    query = (
        select(Job.id)
        .join(ApiKey, ApiKey.id == Job.api_key_id)
        .join(User, User.id == ApiKey.user_id)
        .where(Job.batch_id.is_(None), *conditions, has_ended)
    )
    return list(session.scalars(query.order_by(Job.id).limit(limit)))
