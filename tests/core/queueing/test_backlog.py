from __future__ import annotations

import pytest
import redis

from core.errors import Unavailable
from core.ids import new_id
from core.queueing.backlog import CACHE_SECONDS, Backlog
from core.queueing.broker import JobQueue
from core.queueing.names import QueueName
from core.queueing.workers import WorkerRegistry, WorkerStatus
from tests.support.factories.limit_key import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backlog(redis_client: redis.Redis, clock: Clock) -> Backlog:
    return Backlog(
        JobQueue(redis_client),
        WorkerRegistry(redis_client),
        max_seconds=10,
        max_length=50,
        clock=clock,
    )


def join(client: redis.Redis, jobs: int) -> None:
    for _ in range(jobs):
        JobQueue(client).send(new_id(), QueueName.INTERACTIVE)


def report(
    client: redis.Redis,
    worker_id: str,
    *,
    pace: float,
    waiting: int = 0,
    is_ready: bool = True,
) -> None:
    WorkerRegistry(client).report(
        WorkerStatus(worker_id, "m", 10, is_ready, waiting=waiting, jobs_per_second=pace)
    )


def test_the_backlog_is_the_time_that_the_ready_workers_need(
    redis_client: redis.Redis, backlog: Backlog
) -> None:
    join(redis_client, 10)
    report(redis_client, "a", pace=1.5, waiting=4)
    report(redis_client, "b", pace=0.5, waiting=2)
    report(redis_client, "leaving", pace=9, waiting=99, is_ready=False)

    assert backlog.state().seconds == pytest.approx(8.0)
    assert backlog.seconds_for(3) == pytest.approx(1.5)


def test_a_worker_that_was_never_full_counts_as_the_others_do(
    redis_client: redis.Redis, backlog: Backlog
) -> None:
    join(redis_client, 12)
    report(redis_client, "a", pace=2.0)
    report(redis_client, "new", pace=0.0)

    assert backlog.state().seconds == pytest.approx(3.0)


def test_without_a_measured_throughput_no_time_is_known(
    redis_client: redis.Redis, backlog: Backlog
) -> None:
    join(redis_client, 49)
    assert backlog.state().seconds is None

    report(redis_client, "new", pace=0.0)
    assert backlog.seconds_for(1) is None
    backlog.check()


def test_a_backlog_that_is_too_long_in_time_rejects_jobs(
    redis_client: redis.Redis, backlog: Backlog
) -> None:
    join(redis_client, 14)
    report(redis_client, "a", pace=1.0, waiting=1)

    with pytest.raises(Unavailable) as caught:
        backlog.check()

    assert caught.value.code == "overloaded"
    assert caught.value.headers == {"Retry-After": "5", "retry-after-ms": "5000"}


def test_a_queue_that_is_too_long_rejects_jobs_without_a_worker(
    redis_client: redis.Redis, backlog: Backlog
) -> None:
    join(redis_client, 50)

    with pytest.raises(Unavailable) as caught:
        backlog.check()

    assert caught.value.code == "overloaded"
    assert int(caught.value.headers["Retry-After"]) >= 1


def test_a_burst_between_two_reads_does_not_exceed_the_bound(
    redis_client: redis.Redis, backlog: Backlog
) -> None:
    join(redis_client, 40)

    for _ in range(10):
        backlog.check()

    with pytest.raises(Unavailable):
        backlog.check()


def test_the_state_is_cached_for_a_moment(
    redis_client: redis.Redis, backlog: Backlog, clock: Clock
) -> None:
    report(redis_client, "a", pace=1.0)
    assert backlog.state().seconds == 0
    join(redis_client, 30)

    clock.now += CACHE_SECONDS - 0.01
    assert backlog.state().seconds == 0
    clock.now += 0.02
    assert backlog.state().seconds == 30


def test_bulk_jobs_are_not_in_the_backlog(redis_client: redis.Redis, backlog: Backlog) -> None:
    report(redis_client, "a", pace=1.0)
    JobQueue(redis_client).send(new_id(), QueueName.BULK)

    assert backlog.state().seconds == 0


def test_the_context_is_the_smallest_of_the_ready_workers(
    redis_client: redis.Redis, backlog: Backlog
) -> None:
    for name, length, is_ready in (("a", 4096, True), ("b", 2048, True), ("c", 512, False)):
        WorkerRegistry(redis_client).report(WorkerStatus(name, "m", length, is_ready))

    assert backlog.context_length() == 2048


def test_without_a_ready_worker_the_context_is_not_known(backlog: Backlog) -> None:
    assert backlog.context_length() is None
