from __future__ import annotations

import threading
import time
from uuid import UUID

import dramatiq
import pytest
import redis
from dramatiq import Worker
from dramatiq.brokers import redis as broker_module
from dramatiq.errors import ConnectionClosed

from core.ids import new_id
from core.queue import JobBroker, JobQueue, QueueName, actor_name
from tests.service import wait_until


class Consumer:
    """A Dramatiq worker that notes the jobs it was given."""

    def __init__(self, client: redis.Redis, *, prefetch: int = 4, hold: bool = False) -> None:
        self.seen: list[UUID] = []
        self.release = threading.Event()
        if not hold:
            self.release.set()
        broker = JobBroker(client, prefetch=dict.fromkeys(QueueName, prefetch))

        def run(job_id: str) -> None:
            self.seen.append(UUID(job_id))
            self.release.wait(10)

        for queue in QueueName:
            dramatiq.actor(broker=broker, actor_name=actor_name(queue), queue_name=queue)(run)
        self.worker = Worker(broker, worker_threads=prefetch, worker_timeout=1000)
        self.worker.start()

    def stop(self) -> None:
        self.release.set()
        self.worker.stop(timeout=5000)


def test_a_sent_job_is_on_its_queue_until_it_is_done(client: redis.Redis) -> None:
    queue, job_id, lost = JobQueue(client), new_id(), new_id()
    queue.send(job_id, QueueName.INTERACTIVE)

    assert queue.missing([job_id, lost], QueueName.INTERACTIVE) == [lost]
    assert queue.length(QueueName.INTERACTIVE) == 1

    consumer = Consumer(client)
    wait_until(lambda: queue.missing([job_id], QueueName.INTERACTIVE) == [job_id], 5)
    consumer.stop()

    assert consumer.seen == [job_id]


def test_an_idle_consumer_does_not_wait_for_its_poll(client: redis.Redis) -> None:
    queue, consumer = JobQueue(client), Consumer(client)
    time.sleep(0.3)  # let it fall asleep on the doorbell

    waits = []
    for count in range(1, 11):
        began = time.monotonic()
        queue.send(new_id(), QueueName.INTERACTIVE)
        wait_until(lambda count=count: len(consumer.seen) == count, 5)
        waits.append(time.monotonic() - began)
    consumer.stop()

    # A poll with backoff would take 0.5 s on average.
    assert sorted(waits)[5] < 0.2


def test_a_full_consumer_leaves_jobs_for_others(client: redis.Redis) -> None:
    queue = JobQueue(client)
    full = Consumer(client, prefetch=2, hold=True)
    for _ in range(5):
        queue.send(new_id(), QueueName.INTERACTIVE)
    wait_until(lambda: len(full.seen) == 2, 5)

    free = Consumer(client, prefetch=4)
    wait_until(lambda: len(free.seen) == 3, 5)
    free.stop()
    full.stop()

    assert len(set(full.seen + free.seen)) == 5


def test_a_job_whose_fetch_was_carried_out_but_not_answered_is_given_out_again(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.queue.BROKER_HEARTBEAT_MS", 500)
    broker = JobBroker(client)
    broker.declare_queue(QueueName.INTERACTIVE)
    consumer = broker.consume(QueueName.INTERACTIVE, prefetch=4, timeout=100)
    job_id = new_id()
    JobQueue(client).send(job_id, QueueName.INTERACTIVE)
    fetch = broker.scripts["dispatch"]

    def carried_out_but_not_answered(**call: object) -> None:
        fetch(**call)
        raise redis.TimeoutError

    broker.scripts["dispatch"] = carried_out_but_not_answered
    with pytest.raises(ConnectionClosed):
        next(consumer)
    broker.scripts["dispatch"] = fetch

    seen: list[object] = []
    wait_until(lambda: seen.append(next(consumer)) or any(seen), 5)
    assert [m.message_id for m in seen if m] == [str(job_id)]  # type: ignore[attr-defined]


def test_dramatiq_still_has_what_the_broker_extends() -> None:
    consumer = broker_module._RedisConsumer(None, "interactive", 1, 1)

    assert consumer.message_cache == []
    assert consumer.queued_message_ids == set()
    assert consumer.outstanding_message_count == 0
    assert {"ack", "nack", "requeue", "__next__", "close"} <= set(dir(consumer))
