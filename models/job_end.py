"""What is written in the transaction of a job's end, whoever ended it."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.orm import Session

from models.job import Job, JobOutcome, JobState, ask_to_cancel, finish_job
from models.usage import record_usages
from models.webhook import add_deliveries


def record_end(session: Session, job: Job) -> None:
    """Write what follows from the end of `job`, see `record_ends`."""
    record_ends(session, [job])


def record_ends(session: Session, jobs: Sequence[Job]) -> None:
    """Write what follows from the ends of jobs: webhooks, and the usage of those that ever began.

    Make it the transaction's last statement: see `record_usages`.
    """
    add_deliveries(session, jobs)
    record_usages(session, [job for job in jobs if job.started_at is not None])


def cancel_job(session: Session, job_id: UUID) -> Job | None:
    """End a queued job as cancelled, or ask for the end of a running one.

    Returns the job as it is now, or `None` if there was nothing to cancel. The tokens that a
    running one has made until its end count as used.
    """
    cancelled = finish_job(
        session, job_id, attempt=None, outcome=JobOutcome(state=JobState.CANCELLED)
    )
    if cancelled is not None:
        record_end(session, cancelled)
        return cancelled
    return ask_to_cancel(session, job_id)
