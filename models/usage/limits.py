"""Jobs in flight and used tokens, read from the rows of jobs and usage.

`core/limits/limiter.py` counts them in Redis. A job is in flight if it was charged and has not
ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import and_, func, select, union_all
from sqlalchemy.orm import Session

from core.completion.announce import EndedJob
from core.limits.state import KeyUse
from core.queueing.names import QueueName
from models.accounts.api_key import ApiKey
from models.jobs.job import Job, JobState
from models.usage.usage import Usage, UsageHourly


def read_key_use(session: Session, key_id: UUID, month_began: datetime) -> KeyUse:
    """Return a key's used tokens since `month_began`, and its jobs in flight.

    The used tokens include those that it carries for deleted keys of its owner.
    One statement reads both in one snapshot: a job that ends at that moment is in exactly one.
    """
    used = func.coalesce(func.sum(UsageHourly.prompt_tokens + UsageHourly.completion_tokens), 0)
    month = (
        select(used)
        .where(UsageHourly.api_key_id == key_id, UsageHourly.hour >= month_began)
        .scalar_subquery()
    )
    carried = (
        select(ApiKey.carried_tokens)
        .where(ApiKey.id == key_id, ApiKey.carried_month == month_began)
        .scalar_subquery()
    )
    in_flight = _in_flight(Job.api_key_id == key_id).subquery()
    charged = func.json_object_agg(in_flight.c.id, in_flight.c.charged_tokens)
    by_queue = (charged.filter(in_flight.c.queue == queue) for queue in QueueName)
    total = month + func.coalesce(carried, 0)
    used_tokens, *rows = session.execute(select(total, *by_queue).select_from(in_flight)).one()
    interactive, bulk = ({UUID(job): tokens for job, tokens in (row or {}).items()} for row in rows)
    return KeyUse(int(used_tokens), interactive, bulk)


def reserved_tokens(session: Session, key_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Return the charged tokens of jobs in flight by key; omit keys without any."""
    in_flight = _in_flight(Job.api_key_id.in_(key_ids)).subquery()
    tokens = func.sum(in_flight.c.charged_tokens)
    query = select(in_flight.c.api_key_id, tokens).group_by(in_flight.c.api_key_id)
    return {key_id: int(reserved) for key_id, reserved in session.execute(query)}


def in_flight_before(
    session: Session, before: datetime, queue: QueueName
) -> dict[UUID, dict[UUID, int]]:
    """Return jobs in flight that were queued before a time, by key, with tokens."""
    found: dict[UUID, dict[UUID, int]] = {}
    conditions = and_(Job.queue == queue, Job.queued_at < before)
    for job_id, tokens, key_id, _ in session.execute(_in_flight(conditions)):
        found.setdefault(key_id, {})[job_id] = tokens
    return found


def read_used_tokens(session: Session, job_ids: Iterable[UUID]) -> dict[UUID, int]:
    """Return those of `job_ids` that have ended, with the tokens that each used.

    Usage outlives the job: retention may have deleted the row.
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
    """Return an ended job with its used tokens: those of `record_usages`, or none."""
    used = job.prompt_tokens + job.completion_tokens if job.started_at is not None else 0
    return EndedJob(job.id, job.api_key_id, used, job.queue, job.state, job.request_id)


def _in_flight(condition: Any) -> Any:
    # One query per state: each state has a partial index, which an `in` of both cannot use.
    return union_all(
        *(
            select(Job.id, Job.charged_tokens, Job.api_key_id, Job.queue).where(
                Job.state == state, ~Job.is_held, Job.charged_tokens > 0, condition
            )
            for state in (JobState.QUEUED, JobState.RUNNING)
        )
    )
