from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from core.ids import new_id
from models.database.base import SessionFactory, utc_now
from models.execution.claims import RenewedLease, hand_back_jobs, renew_leases
from models.jobs.job import Job, JobState, may_become, new_job
from models.jobs.lists import queued_before
from models.jobs.outcome import JobOutcome
from models.jobs.transitions import finish_job, list_abandoned_jobs, requeue_silent_jobs
from tests.support.factories.rows import add_job, claim_job

LEASE = timedelta(seconds=10)
GONE = timedelta(seconds=-1)


def claimed(session: Session, *, lease: timedelta = LEASE) -> Job:
    job = claim_job(session, add_job(session).id, worker_id="w1", lease=lease)
    assert job is not None
    return job


@pytest.mark.parametrize("final", [s for s in JobState if s.is_final])
def test_nothing_follows_a_final_state(final: JobState) -> None:
    assert not any(may_become(final, new) for new in JobState)


def test_a_job_is_claimed_by_exactly_one_of_many(database: SessionFactory) -> None:
    with database.begin() as session:
        job_id = add_job(session).id

    def claim(worker: int) -> bool:
        with database.begin() as session:
            job = claim_job(session, job_id, worker_id=f"w{worker}", lease=LEASE)
            return job is not None

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(8))) == 1


def test_a_claim_begins_an_attempt_with_a_lease(session: Session) -> None:
    job = claimed(session)

    assert (job.state, job.attempt, job.worker_id) == ("running", 1, "w1")
    assert job.lease_expires_at is not None
    assert job.lease_expires_at > utc_now()


def test_a_lost_worker_cannot_end_a_job_that_another_claimed(session: Session) -> None:
    first = claimed(session, lease=GONE)
    requeue_silent_jobs(session, max_attempts=3, limit=10)
    second = claim_job(session, first.id, worker_id="w2", lease=LEASE)
    assert second is not None

    late = finish_job(session, first.id, attempt=1, outcome=JobOutcome(JobState.SUCCEEDED))
    ended = finish_job(session, first.id, attempt=2, outcome=JobOutcome(JobState.SUCCEEDED))

    assert late is None
    assert ended is not None


def test_a_job_ends_once(session: Session) -> None:
    job = claimed(session)
    finish_job(session, job.id, attempt=1, outcome=JobOutcome(JobState.FAILED))

    second = finish_job(session, job.id, attempt=1, outcome=JobOutcome(JobState.SUCCEEDED))

    assert second is None
    assert session.get_one(Job, job.id).state == "failed"


def test_a_forbidden_change_of_state_raises(session: Session) -> None:
    with pytest.raises(ValueError, match="cannot go from queued to succeeded"):
        finish_job(
            session, add_job(session).id, attempt=None, outcome=JobOutcome(JobState.SUCCEEDED)
        )


def test_leases_of_other_workers_are_not_renewed(session: Session) -> None:
    mine, other = claimed(session), claimed(session)
    other.worker_id = "w2"
    session.flush()

    assert renew_leases(session, [mine.id, other.id], worker_id="w1", lease=LEASE) == {
        mine.id: RenewedLease(attempt=1, must_cancel=False)
    }


def test_a_silent_workers_job_is_requeued_until_its_attempts_are_used(session: Session) -> None:
    job = claimed(session, lease=GONE)

    assert list_abandoned_jobs(session, max_attempts=2, limit=10) == []
    assert [j.id for j in requeue_silent_jobs(session, max_attempts=2, limit=10)] == [job.id]
    claim_job(session, job.id, worker_id="w2", lease=GONE)
    assert requeue_silent_jobs(session, max_attempts=2, limit=10) == []
    assert [j.id for j in list_abandoned_jobs(session, max_attempts=2, limit=10)] == [job.id]


def test_a_job_with_a_fresh_lease_is_left_alone(session: Session) -> None:
    claimed(session)

    assert requeue_silent_jobs(session, max_attempts=3, limit=10) == []


def test_a_job_that_was_handed_back_has_not_used_an_attempt(session: Session) -> None:
    job = claimed(session)

    handed_back = hand_back_jobs(session, {job.id: 1}, worker_id="w1")

    assert [(j.state, j.attempt) for j in handed_back] == [("queued", 0)]
    assert hand_back_jobs(session, {job.id: 1}, worker_id="w1") == []


def test_queued_jobs_are_listed_oldest_first_from_a_cursor(session: Session) -> None:
    jobs = [add_job(session) for _ in range(3)]
    later = utc_now() + timedelta(seconds=1)

    first = queued_before(session, later, after=None, limit=2)
    rest = queued_before(session, later, after=first[-1].id, limit=2)

    assert [j.id for j in first + rest] == [j.id for j in jobs]


def test_another_workers_job_cannot_be_handed_back_or_ended(session: Session) -> None:
    job = claimed(session)

    assert hand_back_jobs(session, {job.id: 1}, worker_id="w2") == []
    outcome = JobOutcome(JobState.SUCCEEDED)
    assert finish_job(session, job.id, attempt=1, worker_id="w2", outcome=outcome) is None


def test_a_lease_that_was_renewed_in_time_keeps_its_job(session: Session) -> None:
    job = claimed(session)
    outcome = JobOutcome(JobState.FAILED)

    assert finish_job(session, job.id, attempt=1, outcome=outcome, is_silent=True) is None


def test_a_job_has_the_values_of_its_columns_and_no_others() -> None:
    with pytest.raises(ValueError, match="a job has no column metadata"):
        new_job(id=new_id(), metadata={"team": "red"})


def test_the_first_job_of_a_process_is_like_any_other() -> None:
    """The program imports only this module, so no mapper is configured yet."""
    code = (
        "from models.jobs.job import new_job; job = new_job(id=1, state='queued'); print(job.state)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert ran.stdout == "queued\n", ran.stderr
