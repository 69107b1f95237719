"""The dispatcher shares the queue among keys and their batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from uuid import UUID

import redis
from sqlalchemy import select

from models.database.base import SessionFactory
from models.jobs.job import Job
from tests.support.factories.batches import batch_of, have_workers, new_batch
from tests.support.worker.batch_runs import new_key, queue_of, run_queued
from worker.batches.dispatcher import Dispatcher


def test_a_large_batch_does_not_delay_a_small_one(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool]
) -> None:
    large = new_batch(database, lines=100)
    dispatch()
    small = new_batch(database, lines=5)
    run_queued(database, redis_client)

    dispatch()

    with database() as session:
        batch_of_job = {job.id: job.batch_id for job in session.scalars(select(Job))}
    order = [batch_of_job[job_id] for job_id in queue_of(redis_client)]
    assert order in ([small, large] * 5, [large, small] * 5)


def test_many_batches_of_one_key_have_one_share(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool]
) -> None:
    greedy, modest = new_key(database), new_key(database)
    for _ in range(9):
        new_batch(database, greedy, lines=20)
    new_batch(database, modest, lines=50)
    released_of: Counter[UUID] = Counter()

    for _ in range(4):
        dispatch()
        with database() as session:
            key_of_job = {job.id: job.api_key_id for job in session.scalars(select(Job))}
        released_of.update(key_of_job[job_id] for job_id in queue_of(redis_client))
        run_queued(database, redis_client)

    assert released_of == {greedy.id: 20, modest.id: 20}


def test_keys_alternate_when_one_line_fits(
    database: SessionFactory, redis_client: redis.Redis
) -> None:
    batch_ids = [new_batch(database, lines=4) for _ in range(5)]
    have_workers(redis_client, places=1)
    dispatcher = Dispatcher(sessions=database, client=redis_client)

    for _ in range(10):
        dispatcher.run_once()
        assert run_queued(database, redis_client) == 1

    with database() as session:
        assert [batch_of(session, b).succeeded for b in batch_ids] == [2] * 5
