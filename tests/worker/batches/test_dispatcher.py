"""The dispatcher keeps the queue long enough, and releases each line once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import redis
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from core.events.batch_events import publish_batch_change
from core.queueing.broker import JobQueue
from core.queueing.names import QueueName
from models.database.base import SessionFactory
from models.jobs.job import Job
from tests.support.factories.batches import (
    batch_of,
    have_workers,
    lines_by_state,
    new_batch,
    released,
)
from tests.support.polling import wait_until
from tests.support.worker.batch_runs import (
    USED,
    WANTED,
    month_of,
    new_key,
    queue_of,
    run_queued,
    run_to_the_end,
    sums_agree,
)
from worker.batches.dispatcher import Dispatcher
from worker.maintenance.reaper import Reaper


def test_lines_are_released_until_the_queue_is_long_enough(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool]
) -> None:
    batch_id = new_batch(database, lines=30)

    dispatch()
    dispatch()

    with database() as session:
        lines = released(session)
        assert lines_by_state(session, batch_id) == {"queued": 10, "held": 20}
        assert [job.line for job in lines] == list(range(1, 11))
        assert {job.charged_tokens for job in lines} == {WANTED}
        assert queue_of(redis_client) == [job.id for job in lines]
        assert batch_of(session, batch_id).started_at is not None


def test_without_a_ready_worker_nothing_is_released(
    database: SessionFactory, redis_client: redis.Redis
) -> None:
    batch_id = new_batch(database, lines=3)

    Dispatcher(sessions=database, client=redis_client).run_once()

    with database() as session:
        assert lines_by_state(session, batch_id) == {"held": 3}
        assert batch_of(session, batch_id).started_at is None


def test_parallel_dispatchers_release_each_line_once_and_within_the_bound(
    database: SessionFactory, redis_client: redis.Redis
) -> None:
    have_workers(redis_client, places=20)
    batch_ids = [new_batch(database, lines=60) for _ in range(3)]
    ran = 0
    dispatchers = [Dispatcher(sessions=database, client=redis_client) for _ in range(3)]
    must_stop = threading.Event()
    faults: list[BaseException] = []

    def dispatch_repeatedly(dispatcher: Dispatcher) -> None:
        try:
            while not must_stop.is_set():
                dispatcher.run_once()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=dispatch_repeatedly, args=[one]) for one in dispatchers]
    for thread in threads:
        thread.start()
    try:
        deadline = time.monotonic() + 30
        while ran < 180 and time.monotonic() < deadline and not faults:
            assert JobQueue(redis_client).length(QueueName.BULK) <= 20
            ran += run_queued(database, redis_client)
    finally:
        must_stop.set()
        for thread in threads:
            thread.join(20)

    assert faults == []
    with database() as session:
        assert [batch_of(session, b).state for b in batch_ids] == ["completed"] * 3
        assert {job.attempt for job in session.scalars(select(Job))} == {1}
        assert sums_agree(session)


def test_lines_that_were_released_and_not_sent_are_sent_by_the_reaper(
    database: SessionFactory, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_workers(redis_client, places=10)
    batch_id = new_batch(database, lines=12)
    dispatcher = Dispatcher(sessions=database, client=redis_client)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt  # the process ends between commit and send

    monkeypatch.setattr(JobQueue, "send_many", die)
    with pytest.raises(KeyboardInterrupt):
        dispatcher.run_once()
    monkeypatch.undo()
    assert queue_of(redis_client) == []
    another = Dispatcher(sessions=database, client=redis_client)
    another.run_once()  # released lines count as queued

    def reap(grace: timedelta) -> None:
        lease = timedelta(seconds=10)
        Reaper(
            sessions=database, client=redis_client, max_attempts=3, lease=lease, grace=grace
        ).reap()

    assert queue_of(redis_client) == []
    reap(timedelta(minutes=1))
    assert queue_of(redis_client) == []  # the dispatcher that released them may send them
    reap(timedelta(0))

    assert len(queue_of(redis_client)) == 10
    run_to_the_end(database, redis_client, another.run_once, batch_id)
    with database() as session:
        assert batch_of(session, batch_id).succeeded == 12
        assert sums_agree(session)


def test_an_emptied_valkey_releases_no_extra_lines(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool]
) -> None:
    key = new_key(database, monthly_token_limit=100_000)
    batch_id = new_batch(database, key, lines=25)
    dispatch()
    redis_client.flushall()
    have_workers(redis_client, places=10)

    dispatch()

    assert queue_of(redis_client) == []
    with database() as session:
        assert lines_by_state(session, batch_id) == {"queued": 10, "held": 15}
    lease = timedelta(seconds=10)
    Reaper(
        sessions=database, client=redis_client, max_attempts=3, lease=lease, grace=timedelta(0)
    ).reap()
    run_to_the_end(database, redis_client, dispatch, batch_id)
    with database() as session:
        assert batch_of(session, batch_id).succeeded == 25
        assert sums_agree(session)
    assert month_of(database, redis_client, key) == (25 * USED, 0)


@pytest.mark.alone
def test_a_running_dispatcher_starts_a_new_batch_at_once(
    database: SessionFactory, redis_client: redis.Redis
) -> None:
    have_workers(redis_client, places=10)
    dispatcher = Dispatcher(sessions=database, client=redis_client, tick_seconds=30)
    dispatcher.start()
    try:
        wait_until(lambda: redis_client.pubsub_numsub("batch-news")[0][1] == 1, 20)
        for count in (1, 2, 3):  # the first pass may have found the first one
            new_batch(database, lines=1)
            published_at = time.monotonic()
            publish_batch_change(redis_client)
            wait_until(lambda count=count: len(queue_of(redis_client)) == count, 20)
            assert time.monotonic() - published_at < 1.0
    finally:
        dispatcher.stop()


def test_a_database_that_is_away_is_logged_once_and_waited_for(
    database: SessionFactory, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    class UnreliableDatabase:
        """A database that is away while `is_away`; it counts the sessions."""

        is_away = True
        opened = 0

        def __call__(self) -> Any:
            self.opened += 1
            if self.is_away:
                raise OperationalError("begin", {}, Exception("connection refused"))
            return database()

        def begin(self) -> Any:
            return database.begin()

    have_workers(redis_client, places=10)
    new_batch(database, lines=3)
    unreliable = UnreliableDatabase()
    dispatcher = Dispatcher(sessions=unreliable, client=redis_client, tick_seconds=0.05)  # type: ignore[arg-type]
    dispatcher.start()
    try:
        wait_until(lambda: unreliable.opened >= 5, 20)
        unreliable.is_away = False
        wait_until(lambda: len(queue_of(redis_client)) == 3, 20)
    finally:
        dispatcher.stop()

    assert caplog.text.count("a part is away") == 1
