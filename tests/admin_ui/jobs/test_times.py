"""The durations of a job on its page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from admin_ui.jobs.times import JobTimes
from models.jobs.job import Job

MADE = datetime(2026, 11, 1, tzinfo=UTC)
RELEASED = MADE + timedelta(hours=5)


def job(*, released_at: datetime | None) -> Job:
    began = RELEASED + timedelta(seconds=2)
    return Job(
        created_at=MADE,
        released_at=released_at,
        started_at=began,
        first_token_at=began + timedelta(seconds=1),
        finished_at=began + timedelta(seconds=4),
        completion_tokens=31,
    )


def test_a_batch_line_has_waited_since_its_release() -> None:
    times = JobTimes.of(job(released_at=RELEASED), RELEASED)

    assert (times.queued, times.first_token, times.total) == (2_000, 3_000, 6_000)
    assert (times.generating, times.tokens_per_second) == (3_000, 10)


def test_a_single_job_has_waited_since_its_creation() -> None:
    times = JobTimes.of(job(released_at=None), RELEASED)

    assert times.queued == timedelta(hours=5, seconds=2) / timedelta(milliseconds=1)
