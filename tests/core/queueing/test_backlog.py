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
def line(client: redis.Redis, clock: Clock) -> Backlog:
    return Backlog(
        JobQueue(client), WorkerRegistry(client), max_seconds=10, max_length=50, clock=clock
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


def test_the_line_is_as_long_as_the_ready_workers_need(client: redis.Redis, line: Backlog) -> None:
    join(client, 10)
    report(client, "a", pace=1.5, waiting=4)
    report(client, "b", pace=0.5, waiting=2)
    report(client, "leaving", pace=9, waiting=99, is_ready=False)

    assert line.estimate() == pytest.approx(8.0)
    assert line.seconds_for(3) == pytest.approx(1.5)


def test_a_worker_that_was_never_full_counts_as_the_others_do(
    client: redis.Redis, line: Backlog
) -> None:
    join(client, 12)
    report(client, "a", pace=2.0)
    report(client, "new", pace=0.0)

    assert line.estimate() == pytest.approx(3.0)


def test_without_a_measured_pace_no_time_is_told(client: redis.Redis, line: Backlog) -> None:
    join(client, 49)
    assert line.estimate() is None

    report(client, "new", pace=0.0)
    assert line.seconds_for(1) is None
    line.check()


def test_a_line_that_is_too_long_in_time_takes_no_more(client: redis.Redis, line: Backlog) -> None:
    join(client, 14)
    report(client, "a", pace=1.0, waiting=1)

    with pytest.raises(Unavailable) as caught:
        line.check()

    assert caught.value.code == "overloaded"
    assert caught.value.headers == {"Retry-After": "5", "retry-after-ms": "5000"}


def test_a_line_that_is_too_long_takes_no_more_although_nobody_works(
    client: redis.Redis, line: Backlog
) -> None:
    join(client, 50)

    with pytest.raises(Unavailable) as caught:
        line.check()

    assert caught.value.code == "overloaded"
    assert int(caught.value.headers["Retry-After"]) >= 1


def test_a_burst_within_one_look_does_not_slip_through(client: redis.Redis, line: Backlog) -> None:
    join(client, 40)

    for _ in range(10):
        line.check()

    with pytest.raises(Unavailable):
        line.check()


def test_it_looks_again_after_a_moment_and_not_before(
    client: redis.Redis, line: Backlog, clock: Clock
) -> None:
    report(client, "a", pace=1.0)
    assert line.estimate() == 0
    join(client, 30)

    clock.now += CACHE_SECONDS - 0.01
    assert line.estimate() == 0
    clock.now += 0.02
    assert line.estimate() == 30


def test_bulk_work_is_not_in_this_line(client: redis.Redis, line: Backlog) -> None:
    report(client, "a", pace=1.0)
    JobQueue(client).send(new_id(), QueueName.BULK)

    assert line.estimate() == 0


def test_the_context_is_what_every_ready_worker_takes(client: redis.Redis, line: Backlog) -> None:
    for name, length, is_ready in (("a", 4096, True), ("b", 2048, True), ("c", 512, False)):
        WorkerRegistry(client).report(WorkerStatus(name, "m", length, is_ready))

    assert line.context_length() == 2048


def test_without_a_ready_worker_the_context_is_not_known(line: Backlog) -> None:
    assert line.context_length() is None
