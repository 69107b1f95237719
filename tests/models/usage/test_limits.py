from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from core.ids import new_id
from core.limits.state import KeyUse
from core.queueing.names import QueueName
from models.accounts.api_key import ApiKey
from models.database.base import utc_now
from models.execution.completion import record_end
from models.jobs.job import Job, JobState
from models.jobs.outcome import JobOutcome
from models.jobs.transitions import finish_job
from models.usage.limits import (
    ended_job,
    in_flight_before,
    known_jobs,
    read_key_use,
    read_used_tokens,
)
from tests.support.factories.rows import add_job, add_key, claim_job

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def ended(session: Session, key: ApiKey, *, tokens: int) -> Job:
    job = add_job(session, key, charged_tokens=100)
    claim_job(session, job.id, worker_id="w", lease=timedelta(seconds=10))
    outcome = JobOutcome(JobState.SUCCEEDED, prompt_tokens=10, completion_tokens=tokens)
    done = finish_job(session, job.id, attempt=1, outcome=outcome)
    assert done is not None
    record_end(session, done)
    return done


def cancelled(session: Session, key: ApiKey) -> Job:
    """Return a job that was cancelled before it began."""
    job = add_job(session, key, charged_tokens=100, prompt_tokens=10)
    outcome = JobOutcome(JobState.CANCELLED, prompt_tokens=10)
    done = finish_job(session, job.id, attempt=None, outcome=outcome)
    assert done is not None
    record_end(session, done)
    return done


def test_a_keys_use_is_the_ended_jobs_of_the_month_and_those_in_flight(session: Session) -> None:
    key = add_key(session)
    ended(session, key, tokens=5)
    cancelled(session, key)
    queued = add_job(session, key, charged_tokens=30)
    running = add_job(session, key, charged_tokens=40)
    claim_job(session, running.id, worker_id="w", lease=timedelta(seconds=10))
    add_job(session, key)  # from a version that did not charge jobs
    add_job(session, charged_tokens=50)
    ended(session, add_key(session), tokens=6)

    assert read_key_use(session, key.id, LONG_AGO) == KeyUse(15, {queued.id: 30, running.id: 40})


def test_a_key_that_was_never_used_has_used_nothing(session: Session) -> None:
    assert read_key_use(session, add_key(session).id, LONG_AGO) == KeyUse()


def test_jobs_that_ended_before_the_month_do_not_count(session: Session) -> None:
    key = add_key(session)
    ended(session, key, tokens=5)

    assert read_key_use(session, key.id, utc_now() + timedelta(hours=1)).used_tokens == 0


def test_old_jobs_in_flight_are_found_by_key(session: Session) -> None:
    now = utc_now()
    first, second = add_key(session), add_key(session)
    old = [
        add_job(session, key, charged_tokens=9, created_at=now - timedelta(minutes=9))
        for key in (first, first, second)
    ]
    add_job(session, first, charged_tokens=9, created_at=now)

    assert in_flight_before(session, now - timedelta(minutes=5), QueueName.INTERACTIVE) == {
        first.id: {old[0].id: 9, old[1].id: 9},
        second.id: {old[2].id: 9},
    }


def test_ended_jobs_keep_their_usage_when_their_row_is_deleted(session: Session) -> None:
    key = add_key(session)
    done, gone = ended(session, key, tokens=5), ended(session, key, tokens=6)
    never_began = cancelled(session, key)
    queued = add_job(session, key, charged_tokens=9)
    session.delete(gone)
    session.flush()
    job_ids = [done.id, gone.id, never_began.id, queued.id, new_id()]

    assert read_used_tokens(session, job_ids) == {done.id: 15, gone.id: 16, never_began.id: 0}
    assert known_jobs(session, job_ids) == {done.id, never_began.id, queued.id}


def test_a_job_counts_for_the_tokens_of_its_usage(session: Session) -> None:
    key = add_key(session)

    assert ended_job(ended(session, key, tokens=5)).used_tokens == 15
    assert ended_job(cancelled(session, key)).used_tokens == 0
