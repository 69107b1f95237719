from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import redis
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from core.queue import JobQueue, QueueName
from models.api_key import delete_key
from models.base import SessionFactory, utc_now
from models.job import Job
from models.usage import Usage
from models.user import User, delete_user
from tests.models.factories import add_job, add_key, claim_job
from worker.reaper import Reaper

LONG_AGO = timedelta(minutes=5)


@pytest.fixture
def reap(database: SessionFactory, client: redis.Redis) -> Callable[[], None]:
    return Reaper(
        sessions=database, client=client, max_attempts=2, lease=timedelta(seconds=10)
    ).reap


def silent_job(database: SessionFactory, *, attempts: int = 1) -> UUID:
    """A running job whose worker died."""
    with database.begin() as session:
        job = add_job(session)
        claim_job(session, job.id, worker_id="dead", lease=-LONG_AGO)
        job.attempt = attempts
        return job.id


def lost_job(database: SessionFactory, *, age: timedelta = LONG_AGO) -> UUID:
    """A committed job that never reached a queue."""
    with database.begin() as session:
        return add_job(session, created_at=utc_now() - age).id


def test_a_dead_workers_job_is_queued_and_sent_again(
    database: SessionFactory, client: redis.Redis, reap: Callable[[], None]
) -> None:
    job_id = silent_job(database)

    reap()

    assert JobQueue(client).missing([job_id], QueueName.INTERACTIVE) == []
    with database() as session:
        assert session.get_one(Job, job_id).state == "queued"


def test_a_job_that_kills_its_workers_fails_after_its_attempts(
    database: SessionFactory, reap: Callable[[], None]
) -> None:
    job_id = silent_job(database, attempts=2)

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
    database: SessionFactory, client: redis.Redis, reap: Callable[[], None]
) -> None:
    job_id = lost_job(database)

    reap()

    assert JobQueue(client).missing([job_id], QueueName.INTERACTIVE) == []


def test_a_job_that_waits_on_its_queue_is_not_sent_twice(
    database: SessionFactory, client: redis.Redis, reap: Callable[[], None]
) -> None:
    lost_job(database)

    for _ in range(3):
        reap()

    assert JobQueue(client).length(QueueName.INTERACTIVE) == 1


def test_a_job_that_was_just_made_is_left_to_the_api(
    database: SessionFactory, client: redis.Redis, reap: Callable[[], None]
) -> None:
    lost_job(database, age=timedelta(0))

    reap()

    assert JobQueue(client).length(QueueName.INTERACTIVE) == 0


def test_an_emptied_valkey_loses_no_job(
    database: SessionFactory, client: redis.Redis, reap: Callable[[], None]
) -> None:
    for _ in range(5):
        lost_job(database)
    reap()
    client.flushall()

    reap()

    assert JobQueue(client).length(QueueName.INTERACTIVE) == 5


def test_after_an_outage_of_the_database_the_living_get_a_lease_to_show_it(
    database: SessionFactory, client: redis.Redis
) -> None:
    class Sometimes:
        """A database that is away while `is_away`."""

        is_away = False

        def begin(self) -> Any:
            if self.is_away:
                raise OperationalError("begin", {}, Exception("connection refused"))
            return database.begin()

        def __call__(self) -> Any:
            return database()

    sometimes = Sometimes()
    reaper = Reaper(
        sessions=sometimes,  # type: ignore[arg-type]
        client=client,
        max_attempts=2,
        lease=timedelta(seconds=1),
    )
    job_id = silent_job(database)

    def state() -> str:
        with database() as session:
            return session.get_one(Job, job_id).state

    sometimes.is_away = True
    reaper.reap()
    sometimes.is_away = False

    reaper.reap()
    assert state() == "running"
    deadline = time.monotonic() + 20
    while state() == "running" and time.monotonic() < deadline:
        time.sleep(0.1)
        reaper.reap()
    assert state() == "queued"


@pytest.mark.parametrize("how", ["deleted key", "key off", "deleted user", "suspended user"])
def test_jobs_of_a_key_that_may_not_be_used_any_more_are_cancelled(
    database: SessionFactory, client: redis.Redis, reap: Callable[[], None], how: str
) -> None:
    with database.begin() as session:
        key, other = add_key(session), add_key(session)
        owner = session.get_one(User, key.user_id)
        waiting, running = add_job(session, key).id, add_job(session, key).id
        untouched = add_job(session, other).id
        claim_job(session, running, worker_id="w", lease=LONG_AGO)
        if how == "deleted key":
            delete_key(session, key)
        elif how == "key off":
            key.is_active = False
        elif how == "deleted user":
            delete_user(session, owner)
        else:
            owner.is_active = False

    reap()

    with database() as session:
        assert session.get_one(Job, waiting).state == "cancelled"
        assert session.get_one(Job, running).cancel_requested_at is not None
        assert session.get_one(Job, untouched).state == "queued"
