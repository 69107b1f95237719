from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models.accounts.api_key import ApiKey
from models.database.base import utc_now
from models.jobs.job import Job, JobState
from models.jobs.outcome import JobOutcome
from models.jobs.transitions import finish_job
from models.maintenance.consistency import compare_jobs
from models.usage.usage import Usage, UsageHourly, record_usages
from tests.support.factories.rows import add_job, add_key, claim_job


def ended(
    session: Session,
    key: ApiKey,
    *,
    tokens: int,
    state: JobState = JobState.SUCCEEDED,
    **values: Any,
) -> Job:
    job = add_job(session, key, **values)
    claim_job(session, job.id, worker_id="w", lease=timedelta(seconds=10))
    outcome = JobOutcome(state, prompt_tokens=10, completion_tokens=tokens)
    done = finish_job(session, job.id, attempt=1, outcome=outcome)
    assert done is not None
    return done


def test_usage_of_a_job_delivered_twice_is_counted_once(session: Session) -> None:
    key = add_key(session)
    job = ended(session, key, tokens=5)

    record_usages(session, [job])
    record_usages(session, [job])

    rows, hours = session.scalars(select(Usage)).all(), session.scalars(select(UsageHourly)).all()
    assert [(row.prompt_tokens, row.completion_tokens) for row in rows] == [(10, 5)]
    assert [(hour.prompt_tokens, hour.completion_tokens) for hour in hours] == [(10, 5)]


def test_the_roll_up_is_the_sum_of_the_rows(session: Session) -> None:
    key = add_key(session)
    for tokens in (1, 2, 3):
        record_usages(session, [ended(session, key, tokens=tokens)])
    record_usages(session, [ended(session, key, tokens=4, state=JobState.FAILED)])

    rows = session.scalars(select(Usage)).all()
    sums = session.scalars(select(UsageHourly)).all()

    assert sum(row.completion_tokens for row in rows) == 10
    assert sum(hour.completion_tokens for hour in sums) == 10
    assert sum(hour.requests for hour in sums) == 4
    assert sum(hour.succeeded for hour in sums) == 3
    assert sum(row.duration_ms for row in rows) == sum(hour.duration_ms for hour in sums)


def test_a_job_that_has_not_ended_has_no_usage(session: Session) -> None:
    with pytest.raises(ValueError, match="has not ended"):
        record_usages(session, [add_job(session)])


def test_the_duration_of_a_line_excludes_the_time_that_it_was_held(session: Session) -> None:
    now = utc_now()
    times = {"created_at": now - timedelta(hours=5), "released_at": now - timedelta(seconds=3)}

    record_usages(session, [ended(session, add_key(session), tokens=1, **times)])

    (row,) = session.scalars(select(Usage))
    assert 2_000 < row.duration_ms < 60_000
    assert list(compare_jobs(session, since=None, until=None)) == []


def test_a_duration_of_an_older_worker_is_consistent(session: Session) -> None:
    """Older workers counted from the creation of the line."""
    times = {"created_at": utc_now() - timedelta(hours=5), "released_at": utc_now()}
    job = ended(session, add_key(session), tokens=1, **times)
    record_usages(session, [job])
    (row,) = session.scalars(select(Usage))
    assert job.finished_at is not None

    row.duration_ms = round((job.finished_at - job.created_at).total_seconds() * 1000)
    session.flush()

    assert list(compare_jobs(session, since=None, until=None)) == []
