"""The reaper requeues silent jobs, sends lost jobs, and ends jobs that cannot run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import redis
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from core.queueing.broker import JobQueue
from core.queueing.names import QueueName
from models.accounts.api_key import delete_key
from models.accounts.user import User, delete_user
from models.database.base import SessionFactory, utc_now
from models.jobs.job import Job
from models.usage.usage import Usage
from tests.support.factories.rows import add_job, add_key, claim_job
from tests.support.polling import wait_until
from tests.support.worker.silent_jobs import add_silent_job
from worker.maintenance.reaper import Reaper

LONG_AGO = timedelta(minutes=5)


@pytest.fixture
def reap(database: SessionFactory, redis_client: redis.Redis) -> Callable[[], None]:
    return Reaper(
        sessions=database, client=redis_client, max_attempts=2, lease=timedelta(seconds=10)
    ).reap


def add_lost_job(database: SessionFactory, *, age: timedelta = LONG_AGO) -> UUID:
    """Add a committed job that never reached a queue."""
    with database.begin() as session:
        return add_job(session, created_at=utc_now() - age).id


def test_a_dead_workers_job_is_requeued_and_sent(
    database: SessionFactory, redis_client: redis.Redis, reap: Callable[[], None]
) -> None:
    job_id = add_silent_job(database)

    reap()

    assert JobQueue(redis_client).missing([job_id], QueueName.INTERACTIVE) == []
    with database() as session:
        assert session.get_one(Job, job_id).state == "queued"


def test_a_job_that_kills_its_workers_fails_after_its_attempts(
    database: SessionFactory, reap: Callable[[], None]
) -> None:
    job_id = add_silent_job(database, attempts=2)

    reap()
    reap()

    with database() as session:
        job = session.get_one(Job, job_id)
        assert job.state == "failed"
        assert job.error == {
            "code": "worker_lost",
            "message": "the worker died in each of 2 attempts",
        }
        assert len(session.scalars(select(Usage)).all()) == 1


def test_a_job_that_is_on_no_queue_is_sent(
    database: SessionFactory, redis_client: redis.Redis, reap: Callable[[], None]
) -> None:
    job_id = add_lost_job(database)

    reap()

    assert JobQueue(redis_client).missing([job_id], QueueName.INTERACTIVE) == []


def test_a_job_on_its_queue_is_not_sent_twice(
    database: SessionFactory, redis_client: redis.Redis, reap: Callable[[], None]
) -> None:
    add_lost_job(database)

    for _ in range(3):
        reap()

    assert JobQueue(redis_client).length(QueueName.INTERACTIVE) == 1


def test_a_job_within_the_grace_period_is_not_sent(
    database: SessionFactory, redis_client: redis.Redis, reap: Callable[[], None]
) -> None:
    """The API may be about to send it."""
    add_lost_job(database, age=timedelta(0))

    reap()

    assert JobQueue(redis_client).length(QueueName.INTERACTIVE) == 0


def test_an_emptied_valkey_loses_no_job(
    database: SessionFactory, redis_client: redis.Redis, reap: Callable[[], None]
) -> None:
    for _ in range(5):
        add_lost_job(database)
    reap()
    redis_client.flushall()

    reap()

    assert JobQueue(redis_client).length(QueueName.INTERACTIVE) == 5


def test_after_a_database_outage_living_workers_get_one_lease_to_renew(
    database: SessionFactory, redis_client: redis.Redis
) -> None:
    class UnreliableDatabase:
        """A database that is away while `is_away`."""

        is_away = False

        def begin(self) -> Any:
            if self.is_away:
                raise OperationalError("begin", {}, Exception("connection refused"))
            return database.begin()

        def __call__(self) -> Any:
            return database()

    unreliable = UnreliableDatabase()
    reaper = Reaper(
        sessions=unreliable,  # type: ignore[arg-type]
        client=redis_client,
        max_attempts=2,
        lease=timedelta(seconds=1),
    )
    job_id = add_silent_job(database)

    def state() -> str:
        with database() as session:
            return session.get_one(Job, job_id).state

    def is_requeued() -> bool:
        reaper.reap()
        return state() == "queued"

    unreliable.is_away = True
    reaper.reap()
    unreliable.is_away = False

    reaper.reap()
    assert state() == "running"
    wait_until(is_requeued, 20, state)


@pytest.mark.parametrize(
    "reason", ["deleted key", "disabled key", "deleted user", "suspended user"]
)
def test_jobs_of_an_unusable_key_are_cancelled(
    database: SessionFactory, redis_client: redis.Redis, reap: Callable[[], None], reason: str
) -> None:
    with database.begin() as session:
        key, other = add_key(session), add_key(session)
        owner = session.get_one(User, key.user_id)
        waiting, running = add_job(session, key).id, add_job(session, key).id
        untouched = add_job(session, other).id
        claim_job(session, running, worker_id="w", lease=LONG_AGO)
        if reason == "deleted key":
            delete_key(session, key)
        elif reason == "disabled key":
            key.is_active = False
        elif reason == "deleted user":
            delete_user(session, owner)
        else:
            owner.is_active = False

    reap()

    with database() as session:
        assert session.get_one(Job, waiting).state == "cancelled"
        assert session.get_one(Job, running).cancel_requested_at is not None
        assert session.get_one(Job, untouched).state == "queued"
