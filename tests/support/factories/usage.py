"""Usage at a given time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from models.accounts.api_key import ApiKey
from models.jobs.job import JobState
from models.usage.report import UsageScope
from models.usage.usage import record_usages
from tests.support.factories.rows import add_job

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ALL = UsageScope(NOON - DAY, NOON + 30 * DAY)


def add_usage(
    session: Session,
    key: ApiKey,
    at: datetime = NOON,
    *,
    ms: int = 100,
    state: JobState = JobState.SUCCEEDED,
    model: str = "m",
) -> None:
    job = add_job(
        session,
        key,
        state=state,
        created_at=at - timedelta(milliseconds=ms),
        started_at=at,
        finished_at=at,
        prompt_tokens=10,
        completion_tokens=5,
        cached_tokens=2,
    )
    job.model = model
    record_usages(session, [job])
