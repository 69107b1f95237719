from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models.api_key import ApiKey
from models.job import Job, JobOutcome, JobState
from models.job_changes import finish_job
from models.usage import Usage, UsageHourly, record_usages
from tests.models.factories import add_job, add_key, claim_job


def ended(
    session: Session, key: ApiKey, *, tokens: int, state: JobState = JobState.SUCCEEDED
) -> Job:
    job = add_job(session, key)
    claim_job(session, job.id, worker_id="w", lease=timedelta(seconds=10))
    outcome = JobOutcome(state, prompt_tokens=10, completion_tokens=tokens)
    done = finish_job(session, job.id, attempt=1, outcome=outcome)
    assert done is not None
    return done


def test_usage_is_counted_once_whatever_is_delivered_twice(session: Session) -> None:
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
