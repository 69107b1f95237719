"""Jobs on their last attempt: a worker runs at most one, since such a job may kill workers."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import update

from models.database.base import SessionFactory
from models.database.prepared import Statements
from models.execution.claims import claim_jobs
from models.jobs.job import Job
from tests.support.factories.rows import add_job

LEASE = timedelta(seconds=30)


def claimed(
    database: SessionFactory,
    statements: Statements,
    attempts: list[int],
    *,
    max_attempts: int,
    may_be_last: bool = True,
) -> list[int]:
    """Queue jobs with these attempts; return the attempts of the claimed ones."""
    with database.begin() as session:
        jobs = [add_job(session) for _ in attempts]
        for job, attempt in zip(jobs, attempts, strict=True):
            session.execute(update(Job).where(Job.id == job.id).values(attempt=attempt))
    found = claim_jobs(
        statements,
        [job.id for job in jobs],
        worker_id="w",
        lease=LEASE,
        max_attempts=max_attempts,
        may_be_last=may_be_last,
    )
    return sorted(job.attempt - 1 for job in found)


def test_only_one_job_on_its_last_attempt_is_claimed(
    database: SessionFactory, statements: Statements
) -> None:
    found = claimed(database, statements, [0, 1, 2, 2, 2], max_attempts=3)

    assert found == [0, 1, 2]


def test_a_worker_with_such_a_job_claims_no_other_one(
    database: SessionFactory, statements: Statements
) -> None:
    found = claimed(database, statements, [2, 0, 2], max_attempts=3, may_be_last=False)

    assert found == [0]


def test_with_a_single_attempt_for_each_job_all_are_claimed(
    database: SessionFactory, statements: Statements
) -> None:
    found = claimed(database, statements, [0, 0], max_attempts=1, may_be_last=False)

    assert found == [0, 0]
