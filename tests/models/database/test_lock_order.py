"""All statements lock jobs in one order, so that no two of them wait for each other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from models.database.base import SessionFactory, utc_now
from models.execution.claims import hand_back_jobs, renew_leases
from models.execution.finish import finish_jobs
from models.jobs.job import Job, JobState
from models.jobs.outcome import JobOutcome
from models.jobs.transitions import (
    expire_queued,
    list_abandoned_jobs,
    request_cancel,
    requeue_silent_jobs,
)
from tests.support.factories.rows import add_job, add_key, claim_jobs
from tests.support.polling import wait_until

LEASE = timedelta(seconds=30)


def claim(session: Session, ids: Sequence[UUID]) -> None:
    claim_jobs(session, ids, worker_id="w", lease=LEASE)


def renew(session: Session, ids: Sequence[UUID]) -> None:
    renew_leases(session, ids, worker_id="w", lease=LEASE)


def finish(session: Session, ids: Sequence[UUID]) -> None:
    jobs = [session.get_one(Job, job_id) for job_id in ids]
    done = JobOutcome(state=JobState.SUCCEEDED, choices=[])
    finish_jobs(session, [(job, done) for job in jobs], worker_id="w")


def hand_back(session: Session, ids: Sequence[UUID]) -> None:
    hand_back_jobs(session, dict.fromkeys(ids, 1), worker_id="w")


def requeue_silent(session: Session) -> list[Job]:
    return requeue_silent_jobs(session, max_attempts=3, limit=10)


def list_silent(session: Session) -> list[Job]:
    return list_abandoned_jobs(session, max_attempts=1, limit=10)


def expire(session: Session) -> list[Job]:
    return expire_queued(session, limit=10)


@pytest.mark.parametrize(
    ("change", "is_claimed"),
    [(claim, False), (renew, True), (finish, True), (hand_back, True), (request_cancel, True)],
)
def test_a_statement_that_waits_for_the_first_job_locks_no_other(
    database: SessionFactory,
    change: Callable[[Session, Sequence[UUID]], object],
    is_claimed: bool,
) -> None:
    ids = add_jobs(database, 30, is_claimed=is_claimed)
    done = threading.Event()

    def make() -> None:
        with database.begin() as session:
            change(session, ids[::-1])
        done.set()

    with database.begin() as other:
        lock(other, ids[:1])
        thread = threading.Thread(target=make)
        thread.start()
        wait_until(lambda: waiting_for_locks(database) == 1, 20)
        with database.begin() as observer:
            free = lock(observer, ids)

    assert free == ids[1:]
    assert done.wait(5)
    thread.join()


@pytest.mark.parametrize(
    ("change", "is_claimed"), [(requeue_silent, True), (list_silent, True), (expire, False)]
)
def test_the_reaper_skips_jobs_that_others_change(
    database: SessionFactory, change: Callable[[Session], list[Job]], is_claimed: bool
) -> None:
    ids = add_jobs(database, 3, is_claimed=is_claimed)
    past = utc_now() - timedelta(seconds=1)
    with database.begin() as session:
        session.execute(update(Job).values(lease_expires_at=past, expires_at=past, started_at=None))

    with database.begin() as other, database.begin() as session:
        lock(other, ids[1:2])
        found = change(session)

    assert {job.id for job in found} == {ids[0], ids[2]}


def add_jobs(database: SessionFactory, count: int, *, is_claimed: bool) -> list[UUID]:
    """Add jobs whose order in the table is the reverse of their ids; return the ids in order."""
    with database.begin() as session:
        key = add_key(session)
        ids = [add_job(session, key).id for _ in range(count)]
    for job_id in reversed(ids):
        with database.begin() as session:
            claim(session, [job_id])
            if not is_claimed:
                hand_back(session, [job_id])
    return ids


def lock(session: Session, ids: Sequence[UUID]) -> list[UUID]:
    """Lock the jobs that no other transaction has locked; return their ids."""
    query = select(Job.id).where(Job.id.in_(ids)).order_by(Job.id)
    return list(session.scalars(query.with_for_update(skip_locked=True)))


def waiting_for_locks(database: SessionFactory) -> int:
    with database() as session:
        activity = func.pg_stat_get_activity(None).table_valued("wait_event_type")
        query = select(func.count()).select_from(activity)
        return session.scalar(query.where(activity.c.wait_event_type == "Lock")) or 0
