"""Data that ended days ago, and passes of retention over it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from core.config.settings import Settings
from models.accounts.api_key import ApiKey
from models.batches.batch import Batch, BatchState
from models.database.base import SessionFactory, utc_now
from models.jobs.job import Job, JobState
from models.maintenance.consistency import compare_batches, compare_jobs
from models.maintenance.rollup_consistency import compare_roll_ups
from models.usage.usage import record_usages
from tests.support.factories.batches import add_batch
from tests.support.factories.rows import add_job
from worker.maintenance.retention import Retention

DAY = timedelta(days=1)
CHOICES = [{"text": "a secret answer", "index": 0, "finish_reason": "stop"}]
REQUEST = {
    "prompt": "a secret question",
    "stop": ["secret"],
    "maxTokens": 7,
    "metadata": {"team": "red"},
}


def enforce(
    database: SessionFactory, settings: Settings, *, seconds: float = 60.0, **days: int
) -> None:
    """Make one pass, by default without a time limit."""
    retained = {f"retain_{name}_days": count for name, count in days.items()}
    changed = settings.model_copy(update=retained)
    Retention(sessions=database, settings=changed, pass_seconds=seconds).enforce()


def add_ended_job(session: Session, key: ApiKey, days_ago: float, **values: Any) -> UUID:
    """Add a job that ended `days_ago`, with its usage."""
    at = utc_now() - days_ago * DAY
    defaults = {"state": JobState.SUCCEEDED, "request": REQUEST, "choices": CHOICES}
    job = add_job(
        session,
        key,
        **{**defaults, **values},
        created_at=at,
        started_at=at,
        finished_at=at,
        prompt_tokens=10,
        completion_tokens=5,
    )
    record_usages(session, [job])
    return job.id


def add_ended_batch(session: Session, key: ApiKey, days_ago: float, *, lines: int) -> UUID:
    """Add a batch whose lines all succeeded `days_ago`, with their usage."""
    at = utc_now() - days_ago * DAY
    batch = add_batch(session, key, lines=lines, succeeded=lines, prompt_tokens=5 * lines)
    values = {"started_at": at, "finished_at": at}
    session.execute(
        update(Job)
        .where(Job.batch_id == batch.id)
        .values(state=JobState.SUCCEEDED, is_held=False, choices=CHOICES, created_at=at, **values)
    )
    session.execute(
        update(Batch).where(Batch.id == batch.id).values(state=BatchState.COMPLETED, **values)
    )
    record_usages(session, list(session.scalars(select(Job).where(Job.batch_id == batch.id))))
    return batch.id


def count(session: Session, table: Any) -> int:
    return session.scalar(select(func.count()).select_from(table)) or 0


def differences(session: Session) -> list[str]:
    """Return the differences between the tables."""
    every = {"since": None, "until": None}
    found = [
        *compare_jobs(session, **every),
        *compare_roll_ups(session, **every),
        *compare_batches(session, **every),
    ]
    return [difference.problem for difference in found]
