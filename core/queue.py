"""The queue of job ids: Dramatiq over Redis, with a doorbell so that an idle worker begins at once.

A message carries a job's id and nothing else; the row in PostgreSQL is the truth. A message's id in
Redis is the job's id, so that anyone can ask whether a job is on its queue.

Redis keys, beside Dramatiq's own below `dramatiq:` (see its dispatch.lua):
    doorbell:{queue}   list; one entry is pushed with each message, an idle consumer waits on it
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from importlib.resources import files
from typing import Any
from uuid import UUID, uuid4

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import ConnectionClosed
from dramatiq.message import Message

NAMESPACE = "dramatiq"
#: After this long without a sign of life, a worker's messages go to another.
BROKER_HEARTBEAT_MS = 10_000
#: Every command looks for messages of dead workers (Dramatiq counts per million).
ALWAYS = 1_000_000
#: How long a consumer with enough to do leaves new jobs to those with less.
STEP_BACK_SECONDS = 0.05
#: A doorbell never grows beyond this: one entry wakes one consumer, more are noise.
DOORBELL_LENGTH = 64
DOORBELL_TTL_SECONDS = 60


class QueueName(StrEnum):
    """The two lines that jobs wait in; interactive work goes before bulk everywhere."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class JobBroker(RedisBroker):
    """Dramatiq's Redis broker with job ids as message ids, a doorbell and no delayed messages.

    Retries, time limits and results are not Dramatiq's here: a job's attempts are counted in its
    row.

    Args:
        prefetch: messages of each queue that this process may hold.
        eager: with more than this many it leaves new ones to others for a moment.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        prefetch: Mapping[QueueName, int] | None = None,
        eager: int | None = None,
    ) -> None:
        super().__init__(
            client=client,
            middleware=[],
            namespace=NAMESPACE,
            maintenance_chance=ALWAYS,
            heartbeat_timeout=BROKER_HEARTBEAT_MS,
        )
        self._put = client.register_script(files("core").joinpath("queue.lua").read_text())
        self._prefetch = dict(prefetch or {})
        self._eager = eager

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue without the delay queue that Dramatiq would poll beside it."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Put a message on its queue and ring. Raises `redis.RedisError` when Redis is away."""
        if delay is not None:
            raise ValueError("delayed messages are not used")
        message = message.copy(options={"redis_message_id": message.message_id})
        name = f"{NAMESPACE}:{message.queue_name}"
        self._put(
            keys=[f"{name}.msgs", name, _doorbell(message.queue_name)],
            args=[message.message_id, message.encode(), DOORBELL_LENGTH, DOORBELL_TTL_SECONDS],
        )
        return message

    def start_over(self) -> None:
        """Become another worker to Dramatiq, so that what a lost answer held is given out again.

        A message whose fetch was carried out but not answered would wait for ever in the name of a
        worker that lives. Under its old name it counts as dead soon; claims are conditional.
        """
        self.broker_id = str(uuid4())

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 1000) -> DoorbellConsumer:
        allowed = self._prefetch.get(QueueName(queue_name), prefetch)
        eager = allowed if self._eager is None else self._eager
        return DoorbellConsumer(self, queue_name, allowed, timeout, eager=eager)


class DoorbellConsumer(_RedisConsumer):
    """Waits on the doorbell when the queue is empty, and for room when its worker is full.

    Dramatiq's own consumer sleeps with a growing backoff in both cases: an idle worker would find
    a job up to a second late, and a busy one would leave its freed threads idle as long.
    """

    def __init__(
        self, broker: JobBroker, queue_name: str, prefetch: int, timeout: int, *, eager: int
    ) -> None:
        super().__init__(broker, queue_name, prefetch, timeout)
        self._eager = eager
        self._room = threading.Event()

    def ack(self, message: Any) -> None:
        with _closing_on_error():
            super().ack(message)
        self._room.set()

    def nack(self, message: Any) -> None:
        with _closing_on_error():
            super().nack(message)
        self._room.set()

    def requeue(self, messages: Any) -> None:
        with _closing_on_error():
            super().requeue(messages)

    def __next__(self) -> Any:
        try:
            if not self.message_cache:
                self._fetch_or_wait()
            if not self.message_cache:
                return None
            message = Message.decode(self.message_cache.pop(0))
        except redis.RedisError as error:
            self.broker.start_over()
            raise ConnectionClosed(error) from None
        self.queued_message_ids.add(message.message_id)
        return dramatiq.MessageProxy(message)

    def close(self) -> None:
        """Give back what was fetched and not begun."""
        cached = [Message.decode(data) for data in self.message_cache]
        self.message_cache = []
        self.requeue(cached)

    def _fetch_or_wait(self) -> None:
        self._room.clear()
        if self.outstanding_message_count >= self._eager:
            self._room.wait(STEP_BACK_SECONDS)
        room = max(0, self.prefetch - self.outstanding_message_count)
        # Asked even without room: each call is this worker's sign of life to Dramatiq.
        fetched = self.broker.do_fetch(self.queue_name, room)
        if not room:
            self._room.wait(self.timeout / 1000)
            return
        # A message id without its message was purged while it waited.
        self.message_cache = [data for data in fetched if data is not None]
        if not fetched:
            self.broker.client.blpop([_doorbell(self.queue_name)], timeout=self.timeout / 1000)


class JobQueue:
    """What the API and the reaper need of the queue: send a job, ask what is on it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._broker = JobBroker(client)

    def send(self, job_id: UUID, queue: QueueName) -> None:
        """Put a committed job on its queue.

        Raises:
            redis.RedisError: Redis is away; the job is not on the queue, or may be.
        """
        self._broker.enqueue(
            Message(
                queue_name=queue,
                actor_name=actor_name(queue),
                args=(str(job_id),),
                kwargs={},
                options={},
                message_id=str(job_id),
            )
        )

    def missing(self, job_ids: Iterable[UUID], queue: QueueName) -> list[UUID]:
        """Return those of `job_ids` that are neither waiting on the queue nor held by a worker."""
        ids = list(job_ids)
        with self._client.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hexists(f"{NAMESPACE}:{queue}.msgs", str(job_id))
            known = pipe.execute()
        return [job_id for job_id, is_known in zip(ids, known, strict=True) if not is_known]

    def length(self, queue: QueueName) -> int:
        """Return how many jobs wait on the queue, those held by workers not counted."""
        return int(self._client.llen(f"{NAMESPACE}:{queue}"))


@contextmanager
def _closing_on_error() -> Iterator[None]:
    """Turn every error of Redis into the one that makes Dramatiq try again."""
    try:
        yield
    except redis.RedisError as error:
        raise ConnectionClosed(error) from None


def actor_name(queue: QueueName) -> str:
    """Return the name of the actor that runs jobs of this queue."""
    return f"run_{queue}_job"


def _doorbell(queue_name: str) -> str:
    return f"doorbell:{queue_name}"
