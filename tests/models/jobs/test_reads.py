from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text

from core.config.settings import Settings
from models.database.base import SessionFactory, open_database
from models.database.prepared import Statements
from models.jobs.job import Job, JobState, values_of
from models.jobs.outcome import JobOutcome
from models.jobs.reads import JobReads
from models.jobs.transitions import finish_job
from tests.support.factories.rows import add_job, claim_job
from tests.support.polling import wait_until

OUTCOME = JobOutcome(
    state=JobState.SUCCEEDED,
    choices=[{"text": "'x' ü", "index": 0, "finish_reason": "stop"}],
    prompt_tokens=3,
    completion_tokens=2,
    cached_tokens=1,
)


@pytest.fixture
def reads(base_settings: Settings) -> Iterator[JobReads]:
    engine = open_database(base_settings, is_autocommit=True)
    yield JobReads(Statements(engine, max_idle=1), timeout_seconds=5)
    engine.dispose()


def test_a_reloaded_job_equals_its_row(database: SessionFactory, reads: JobReads) -> None:
    with database.begin() as session:
        job, other = add_job(session), add_job(session)
    with database.begin() as session:
        claim_job(session, job.id, worker_id="w", lease=timedelta(seconds=9))
        finish_job(session, job.id, attempt=1, outcome=OUTCOME)

    reloaded = reads.reload(job)

    with database() as session:
        row = session.get_one(Job, job.id)
    changed = {name: value for name, value in values_of(row).items() if name != "lease_expires_at"}
    assert {name: getattr(reloaded, name) for name in changed} == changed
    assert reads.reload(other).state == JobState.QUEUED


def test_a_job_without_a_row_is_returned_unchanged(
    database: SessionFactory, reads: JobReads
) -> None:
    with database.begin() as session:
        job = add_job(session)
    with database.begin() as session:
        session.execute(text("delete from jobs"))

    assert reads.reload(job) is job


def test_coalesced_reads_each_return_their_own_job(
    database: SessionFactory, reads: JobReads
) -> None:
    with database.begin() as session:
        jobs = [add_job(session, request_id=str(i)) for i in range(6)]
    with ThreadPoolExecutor(6) as pool:
        with database.begin() as session:
            session.execute(text("lock table jobs in access exclusive mode"))
            reloaded = [pool.submit(reads.reload, jobs[0])]
            wait_until(lambda: reads._rows._has_leader and not reads._rows._waiting, 20)
            reloaded += [pool.submit(reads.reload, job) for job in jobs[1:]]
            wait_until(lambda: len(reads._rows._waiting) == 5, 20)
            for job in jobs[:3]:
                session.get_one(Job, job.id).prompt_tokens = 7
        found = [future.result(5) for future in reloaded]

    assert [job.id for job in found] == [job.id for job in jobs]
    assert [job.prompt_tokens for job in found] == [7, 7, 7, 0, 0, 0]
