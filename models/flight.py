"""What the database knows of jobs in flight and of tokens used: the truth behind `core/limits.py`.

In flight is a job that was charged and has not ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, union_all
from sqlalchemy.orm import Session

from core.job_ends import EndedJob
from core.limit_state import KeyUse
from models.job import Job, JobState
from models.usage import Usage, UsageHourly


def read_key_use(session: Session, key_id: UUID, month_began: datetime) -> KeyUse:
    """Return what a key used since `month_began` and what it has in flight.

    One statement, so one snapshot: a job that ends meanwhile is in exactly one of the two.
    """
    used = func.coalesce(func.sum(UsageHourly.prompt_tokens + UsageHourly.completion_tokens), 0)
    month = (
        select(used)
        .where(UsageHourly.api_key_id == key_id, UsageHourly.hour >= month_began)
        .scalar_subquery()
    )
    in_flight = _in_flight(Job.api_key_id == key_id).subquery()
    row = session.execute(
        select(
            month,
            func.json_object_agg(in_flight.c.id, in_flight.c.charged_tokens).filter(
                in_flight.c.id.is_not(None)
            ),
        ).select_from(in_flight)
    ).one()
    return KeyUse(int(row[0]), {UUID(job): tokens for job, tokens in (row[1] or {}).items()})


def in_flight_before(session: Session, before: datetime) -> dict[UUID, dict[UUID, int]]:
    """Return the jobs in flight that were made before a time: by key, with what was charged."""
    found: dict[UUID, dict[UUID, int]] = {}
    for job_id, tokens, key_id in session.execute(_in_flight(Job.created_at < before)):
        found.setdefault(key_id, {})[job_id] = tokens
    return found


def ended_use(session: Session, job_ids: Iterable[UUID]) -> dict[UUID, int]:
    """Return those of `job_ids` that have ended, with the tokens that each used.

    What was used outlives the job: retention may have deleted the row.
    """
    ids = list(job_ids)
    ended = dict.fromkeys(
        session.scalars(select(Job.id).where(Job.id.in_(ids), Job.finished_at.is_not(None))), 0
    )
    used = select(Usage.job_id, Usage.prompt_tokens + Usage.completion_tokens)
    for job_id, tokens in session.execute(used.where(Usage.job_id.in_(ids))):
        ended[job_id] = tokens
    return ended


def known_jobs(session: Session, job_ids: Iterable[UUID]) -> set[UUID]:
    """Return those of `job_ids` that have a row."""
    return set(session.scalars(select(Job.id).where(Job.id.in_(list(job_ids)))))


def ended_job(job: Job) -> EndedJob:
    """Return what a job that has ended counts for: what `record_usages` wrote, or nothing."""
    used = job.prompt_tokens + job.completion_tokens if job.started_at is not None else 0
    return EndedJob(job.id, job.api_key_id, used)


def _in_flight(condition: Any) -> Any:
    # One arm for each state: each has its partial index, an `in` of both would have none.
    return union_all(
        *(
            select(Job.id, Job.charged_tokens, Job.api_key_id).where(
                Job.state == state, Job.charged_tokens > 0, condition
            )
            for state in (JobState.QUEUED, JobState.RUNNING)
        )
    )
