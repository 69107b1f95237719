from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID

import pytest
import redis
from dramatiq.brokers.redis import RedisBroker

from core.ids import new_id
from core.queueing.broker import JobBroker, JobQueue
from core.queueing.names import QueueName
from core.redis.connection import Command, RedisConnection
from tests.support.polling import wait_until
from worker.jobs.consumer import DoorbellConsumer
from worker.jobs.poller import Poller
from worker.jobs.run import JobMessage


class Worker:
    """Fetches jobs as a worker does; acknowledges them at once unless `hold`."""

    def __init__(self, client: redis.Redis, *, max_jobs: int = 4, hold: bool = False) -> None:
        self.seen: list[UUID] = []
        self.consumer = consumer_of(client, max_jobs=max_jobs)
        self._hold = hold
        self._poller = Poller(self.consumer, self._take, name="take")
        self._poller.start()

    def _take(self, jobs: Sequence[JobMessage]) -> None:
        self.seen += [message.job_id for message in jobs]
        if not self._hold:
            for message in jobs:
                message.source.ack(message.job_id)

    def stop_fetching(self) -> None:
        self._poller.stop_fetching()

    def stop(self) -> None:
        self._poller.stop()


def consumer_of(
    client: redis.Redis, *, max_jobs: int = 4, idle_seconds: float = 1.0
) -> DoorbellConsumer:
    return DoorbellConsumer(
        JobBroker(client), QueueName.INTERACTIVE, max_jobs=max_jobs, idle_seconds=idle_seconds
    )


@contextmanager
def worker(client: redis.Redis, *, max_jobs: int = 4, hold: bool = False) -> Iterator[Worker]:
    running = Worker(client, max_jobs=max_jobs, hold=hold)
    try:
        yield running
    finally:
        running.stop()


def send(client: redis.Redis, count: int = 1) -> list[UUID]:
    jobs = [new_id() for _ in range(count)]
    for job_id in jobs:
        JobQueue(client).send(job_id, QueueName.INTERACTIVE)
    return jobs


def waits_on_doorbell(client: redis.Redis) -> bool:
    """Say whether one consumer blocks in Redis until the doorbell rings."""
    return int(client.info("clients")["blocked_clients"]) == 1


def test_a_sent_job_is_on_its_queue_until_it_is_done(redis_client: redis.Redis) -> None:
    queue, lost = JobQueue(redis_client), new_id()
    [job_id] = send(redis_client)

    assert queue.missing([job_id, lost], QueueName.INTERACTIVE) == [lost]
    assert queue.length(QueueName.INTERACTIVE) == 1

    with worker(redis_client) as only:
        wait_until(lambda: queue.missing([job_id], QueueName.INTERACTIVE) == [job_id], 20)

    assert only.seen == [job_id]


def test_a_stopping_worker_acknowledges_its_finished_jobs(redis_client: redis.Redis) -> None:
    with worker(redis_client) as only:
        jobs = send(redis_client, 3)
        wait_until(lambda: len(only.seen) == 3, 20)

    assert JobQueue(redis_client).missing(jobs, QueueName.INTERACTIVE) == jobs


@pytest.mark.alone
def test_an_idle_consumer_does_not_wait_for_its_poll(redis_client: redis.Redis) -> None:
    with worker(redis_client) as only:
        wait_until(lambda: waits_on_doorbell(redis_client), 20)

        waits = []
        for count in range(1, 11):
            began = time.monotonic()
            send(redis_client)
            wait_until(lambda count=count: len(only.seen) == count, 20)
            waits.append(time.monotonic() - began)

    # A poll with backoff would take 0.5 s on average.
    assert sorted(waits)[5] < 0.2


def test_a_full_consumer_leaves_jobs_for_others(redis_client: redis.Redis) -> None:
    with worker(redis_client, max_jobs=2, hold=True) as full:
        send(redis_client, 5)
        wait_until(lambda: len(full.seen) == 2, 20)

        with worker(redis_client, max_jobs=4) as free:
            wait_until(lambda: len(free.seen) == 3, 20)

    assert len(set(full.seen + free.seen)) == 5


@pytest.mark.alone
def test_a_full_consumer_fetches_as_soon_as_a_slot_is_free(redis_client: redis.Redis) -> None:
    with worker(redis_client, max_jobs=1, hold=True) as only:
        first, second = send(redis_client, 2)
        wait_until(lambda: only.seen == [first], 20)
        # It waits for a free slot inside the process: no test can see that.
        time.sleep(0.2)
        began = time.monotonic()
        only.consumer.ack(first)
        wait_until(lambda: only.seen == [first, second], 20)

    assert time.monotonic() - began < 0.5


@pytest.mark.alone
def test_a_requeued_job_goes_to_another_worker_at_once(redis_client: redis.Redis) -> None:
    with worker(redis_client, hold=True) as leaving:
        [job_id] = send(redis_client)
        wait_until(lambda: leaving.seen == [job_id], 20)
        leaving.stop_fetching()
        wait_until(lambda: not waits_on_doorbell(redis_client), 20)
        with worker(redis_client) as other:
            wait_until(lambda: waits_on_doorbell(redis_client), 20)
            began = time.monotonic()
            leaving.consumer.requeue(job_id)
            wait_until(lambda: other.seen == [job_id], 20)

    assert time.monotonic() - began < 0.5


def test_a_draining_worker_keeps_its_jobs(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.queueing.broker.BROKER_HEARTBEAT_MS", 1500)
    with worker(redis_client, hold=True) as draining:
        held = send(redis_client)
        wait_until(lambda: draining.seen == held, 20)
        draining.stop_fetching()
        late = send(redis_client)

        with worker(redis_client) as other:
            wait_until(lambda: other.seen == late, 20)
            # Nothing may happen: Redis takes a worker for dead after 1.5 s without a heartbeat.
            time.sleep(2)
            assert other.seen == late

    assert draining.seen == held


def test_signs_of_life_are_timed_by_redis(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dramatiq.brokers.redis.current_millis", lambda: 10**15)
    broker = JobBroker(redis_client)

    broker.do_qsize(QueueName.INTERACTIVE)

    beat = redis_client.zscore("dramatiq:__heartbeats__", broker.broker_id)
    seconds, _ = redis_client.time()
    assert abs(beat / 1000 - seconds) < 5


@pytest.mark.alone
def test_an_idle_worker_stops_at_once(redis_client: redis.Redis) -> None:
    running = Worker(redis_client)
    wait_until(lambda: waits_on_doorbell(redis_client), 20)
    began = time.monotonic()

    running.stop()

    assert time.monotonic() - began < 0.5


def test_a_malformed_message_does_not_delay_jobs(redis_client: redis.Redis) -> None:
    redis_client.hset("dramatiq:interactive.msgs", "x", "nonsense")
    redis_client.rpush("dramatiq:interactive", "x")
    jobs = send(redis_client)

    with worker(redis_client) as only:
        wait_until(lambda: only.seen == jobs, 20)


def test_lost_scripts_are_loaded(redis_client: redis.Redis) -> None:
    consumer = consumer_of(redis_client, idle_seconds=0.1)
    redis_client.script_flush()
    jobs = send(redis_client)

    assert consumer.fetch() == jobs


def test_a_job_whose_fetch_had_no_reply_is_delivered_later(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.queueing.broker.BROKER_HEARTBEAT_MS", 500)
    consumer = consumer_of(redis_client, idle_seconds=0.1)
    jobs = send(redis_client)
    exchange = RedisConnection.exchange

    def executed_without_reply(link: RedisConnection, commands: Sequence[Command]) -> None:
        exchange(link, commands)
        raise redis.TimeoutError

    with monkeypatch.context() as broken:
        broken.setattr(RedisConnection, "exchange", executed_without_reply)
        with pytest.raises(redis.TimeoutError):
            consumer.fetch()

    seen: list[UUID] = []
    wait_until(lambda: seen.extend(consumer.fetch()) or bool(seen), 20)
    assert seen == jobs


def test_a_lost_script_loses_no_fetched_job(
    redis_client: redis.Redis,
) -> None:
    consumer = consumer_of(redis_client, idle_seconds=5)
    [first] = send(redis_client)
    assert consumer.fetch() == [first]
    assert consumer.fetch() == []  # the doorbell of the first job woke it
    consumer.ack(first)
    redis_client.script_flush()
    with ThreadPoolExecutor(1) as pool:
        took = pool.submit(consumer.fetch)  # it cannot acknowledge the first, and waits
        wait_until(lambda: waits_on_doorbell(redis_client), 20)
        JobBroker(redis_client).load()
        [second] = send(redis_client)

        assert took.result(5) == [second]

    consumer.flush()
    assert JobQueue(redis_client).missing([first, second], QueueName.INTERACTIVE) == [first]


def test_a_job_fetched_while_its_worker_stops_is_requeued(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping, other = (
        consumer_of(redis_client, idle_seconds=5),
        consumer_of(redis_client, idle_seconds=0.1),
    )
    assert stopping.fetch() == []  # the next fetch waits on the doorbell
    monkeypatch.setattr(stopping, "wake", lambda: None)
    with ThreadPoolExecutor(1) as pool:
        took = pool.submit(stopping.fetch)
        wait_until(lambda: waits_on_doorbell(redis_client), 20)
        stopping.stop_fetching()
        jobs = send(redis_client)
        assert took.result(5) == []
    stopping.flush()

    assert stopping.held == 0
    assert other.fetch() == jobs


def test_a_broker_of_dramatiq_can_serve_the_same_queue(redis_client: redis.Redis) -> None:
    """The broker uses private parts of dramatiq: this fails if an upgrade changes them."""
    [job_id] = send(redis_client)
    other = RedisBroker(client=redis_client, namespace="dramatiq")

    [data] = other.do_fetch(QueueName.INTERACTIVE, 1)
    other.do_ack(QueueName.INTERACTIVE, str(job_id))

    assert str(job_id).encode() in data
    assert JobQueue(redis_client).missing([job_id], QueueName.INTERACTIVE) == [job_id]
    assert other.heartbeat_timeout and other.dead_message_ttl and other._max_unpack_size()
    assert other._should_do_maintenance("ack") == 0
