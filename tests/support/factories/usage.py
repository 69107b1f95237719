"""Usage at a given time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from models.accounts.api_key import ApiKey
from models.jobs.job import Job, JobState
from models.usage.report import UsageScope
from models.usage.usage import record_usages
from tests.support.factories.rows import make_job

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ALL = UsageScope(NOON - DAY, NOON + 30 * DAY)


def used_job(
    key: ApiKey,
    at: datetime = NOON,
    *,
    ms: int = 100,
    state: JobState = JobState.SUCCEEDED,
    model: str = "m",
) -> Job:
    """Return a job that ended at this time, after so many milliseconds."""
    return make_job(
        key,
        state=state,
        model=model,
        created_at=at - timedelta(milliseconds=ms),
        started_at=at,
        finished_at=at,
        prompt_tokens=10,
        completion_tokens=5,
        cached_tokens=2,
    )


def add_usage(session: Session, key: ApiKey, at: datetime = NOON, **values: Any) -> None:
    """Add a `used_job` and its usage."""
    add_usages(session, [used_job(key, at, **values)])


def add_usages(session: Session, jobs: Sequence[Job]) -> None:
    session.add_all(jobs)
    session.flush()
    record_usages(session, jobs)
