"""The queue of job ids: Dramatiq over Redis, with a doorbell so that an idle worker begins at once.

A message carries a job's id and nothing else; the row in PostgreSQL is the truth. A message's id in
Redis is the job's id, so that anyone can ask whether a job is on its queue.

Redis keys, beside Dramatiq's own below `dramatiq:` (see its dispatch.lua):
    doorbell:{queue}        list; an entry is pushed with each message, an idle consumer waits on it
    doorbell:{queue}:{id}   list; wakes this one consumer, when it shall stop
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from enum import StrEnum
from importlib.resources import files
from typing import Any
from uuid import UUID, uuid4

import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.common import current_millis
from dramatiq.errors import DecodeError
from dramatiq.message import Message
from redis.client import Pipeline

from core.scripts import Scripts

_log = logging.getLogger(__name__)

NAMESPACE = "dramatiq"
#: After this long without a sign of life, a worker's messages go to another.
BROKER_HEARTBEAT_MS = 10_000
#: Every command looks for messages of dead workers (Dramatiq counts per million).
ALWAYS = 1_000_000
#: How long a consumer with enough to do leaves new jobs to those with less.
STEP_BACK_SECONDS = 0.05
#: How long a consumer that has nothing to take waits for the doorbell before it looks around.
IDLE_SECONDS = 1.0
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
    row. Nor is its `Worker`, which holds a thread for each message: jobs are taken by
    `DoorbellConsumer`.

    Args:
        scripts: what this process runs scripts with, if others use it too.
    """

    def __init__(self, client: redis.Redis, *, scripts: Scripts | None = None) -> None:
        super().__init__(
            client=client,
            middleware=[],
            namespace=NAMESPACE,
            maintenance_chance=ALWAYS,
            heartbeat_timeout=BROKER_HEARTBEAT_MS,
        )
        text = files("core").joinpath("queue.lua").read_text()
        self._put = (scripts or Scripts(client)).register(text)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Put a message on its queue and ring. Raises `redis.RedisError` when Redis is away."""
        if delay is not None:
            raise ValueError("delayed messages are not used")
        if "redis_message_id" not in message.options:
            message = message.copy(options={"redis_message_id": message.message_id})
        name = f"{NAMESPACE}:{message.queue_name}"
        self._put(
            keys=[f"{name}.msgs", name, _doorbell(message.queue_name)],
            args=[message.message_id, message.encode(), DOORBELL_LENGTH, DOORBELL_TTL_SECONDS],
        )
        return message

    def enqueue_many(self, queue: QueueName, job_ids: Sequence[UUID]) -> None:
        """Put the messages of jobs on a queue, in this order and in one call."""
        parts: list[str | bytes] = []
        for job_id in job_ids:
            parts += [str(job_id), _message(job_id, queue).encode()]
        name = f"{NAMESPACE}:{queue}"
        self._put(
            keys=[f"{name}.msgs", name, _doorbell(queue)],
            args=[*parts[:2], DOORBELL_LENGTH, DOORBELL_TTL_SECONDS, *parts[2:]],
        )

    def start_over(self) -> None:
        """Become another worker to Dramatiq, so that what a lost answer held is given out again.

        A message whose fetch was carried out but not answered would wait for ever in the name of a
        worker that lives. Under its old name it counts as dead soon; claims are conditional.
        """
        self.broker_id = str(uuid4())

    def dispatch_in(self, pipe: Pipeline, command: str, queue_name: str, *args: Any) -> None:
        """Let a pipeline carry out a command of Dramatiq's, as `do_…` of `RedisBroker` would.

        Its `execute` raises `NoScriptError` before the first `load` on a Redis.
        """
        values = [
            command,
            current_millis(),
            queue_name,
            self.broker_id,
            self.heartbeat_timeout,
            self.dead_message_ttl,
            self._should_do_maintenance(command),
            self._max_unpack_size(),
            *args,
        ]
        # Not by the script object: it would ask before each pipeline whether it is known.
        pipe.evalsha(self.scripts["dispatch"].sha, 1, self.namespace, *values)

    def load(self) -> None:
        """Make Dramatiq's script known to a Redis that has lost it, for calls by pipeline."""
        self.client.script_load(self.scripts["dispatch"].script)


class DoorbellConsumer:
    """Takes jobs of one queue for a worker; it knows how many of them the worker still holds.

    It waits on the doorbell when the queue is empty, and for room when its worker is full.
    Dramatiq's own consumer sleeps with a growing backoff in both cases: an idle worker would find
    a job up to a second late.

    What the worker has done with its jobs is told to Redis together with the next fetch, by the
    one thread that calls `take`: so it costs no call of its own. If it is never told (the process
    dies, or Redis does) the messages are delivered again, and nobody can claim their jobs.

    Args:
        most: jobs that the worker may hold of this queue.
        eager: with this many or more it leaves new ones to others for a moment.
        idle_seconds: how long `take` waits at most; each call is a sign of life to Dramatiq.
    """

    def __init__(
        self,
        broker: JobBroker,
        queue: QueueName,
        *,
        most: int,
        eager: int | None = None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._broker = broker
        self._queue = queue
        self._most = most
        self._eager = most if eager is None else eager
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._room = threading.Event()
        self._held = 0
        self._done: list[str] = []
        self._back: list[str] = []
        self._is_empty = False
        self._is_stopping = False
        self._wake_key = f"{_doorbell(queue)}:{uuid4()}"

    @property
    def held(self) -> int:
        """Jobs that were taken, and of which neither `ack` nor `requeue` was called yet."""
        return self._held

    def ack(self, job_id: UUID) -> None:
        """Let go of a job that needs no worker any more."""
        self._let_go(self._done, job_id)

    def requeue(self, job_id: UUID) -> None:
        """Let go of a job that another worker, or this one later, shall look at."""
        self._let_go(self._back, job_id)

    def stop_taking(self) -> None:
        """Take nothing from now on; what is held stays this worker's."""
        self._is_stopping = True
        self.wake()

    def wake(self) -> None:
        """Let a `take` that waits return. With Redis away it returns after `idle_seconds`."""
        self._room.set()
        try:
            with self._broker.client.pipeline(transaction=False) as pipe:
                pipe.lpush(self._wake_key, 1)
                pipe.expire(self._wake_key, DOORBELL_TTL_SECONDS)
                pipe.execute()
        except redis.RedisError:
            _log.warning("a consumer could not be woken: Redis is away")

    def take(self) -> list[UUID]:
        """Return jobs to begin, as many as there is room for; none when nothing comes for a while.

        Raises:
            redis.RedisError: Redis is away. What is held is delivered again, and claimed once.
        """
        try:
            return self._take()
        except redis.RedisError:
            self._broker.start_over()
            raise

    def flush(self) -> None:
        """Tell Redis what became of the jobs, and give a sign of life.

        Raises:
            redis.RedisError: Redis is away.
        """
        self._exchange(0)

    def _take(self) -> list[UUID]:
        self._room.clear()
        if self._is_empty and not self._is_stopping and self._held < self._most:
            # Whatever came since the last look has rung.
            self._broker.client.blpop(
                [_doorbell(self._queue), self._wake_key], timeout=self._idle_seconds
            )
        if self._held >= self._eager:
            self._room.wait(STEP_BACK_SECONDS)
        room = 0 if self._is_stopping else max(0, self._most - self._held)
        # Asked even without room: each call is this worker's sign of life to Dramatiq.
        fetched = self._exchange(room)
        self._is_empty = len(fetched) < room
        if not room:
            self._room.wait(self._idle_seconds)
        jobs = [job for data in fetched if (job := _job_of(data)) is not None]
        with self._lock:
            self._held += len(jobs)
        return jobs

    def _let_go(self, told: list[str], job_id: UUID) -> None:
        with self._lock:
            told.append(str(job_id))
            self._held -= 1
        self._room.set()

    def _exchange(self, room: int) -> Sequence[bytes | None]:
        """Tell what was done and given back, fetch as many jobs as there is room for."""
        with self._lock:
            done, back = list(self._done), list(self._back)
        try:
            fetched = self._call(done, back, room)
        except redis.exceptions.NoScriptError:
            self._broker.load()
            fetched = self._call(done, back, room)
        with self._lock:
            del self._done[: len(done)]
            del self._back[: len(back)]
        return fetched

    def _call(self, done: list[str], back: list[str], room: int) -> Sequence[bytes | None]:
        with self._broker.client.pipeline(transaction=False) as pipe:
            for message_id in done:
                self._broker.dispatch_in(pipe, "ack", self._queue, message_id)
            if back:
                self._broker.dispatch_in(pipe, "requeue", self._queue, *back)
                for _ in back[:DOORBELL_LENGTH]:
                    pipe.lpush(_doorbell(self._queue), 1)
                pipe.expire(_doorbell(self._queue), DOORBELL_TTL_SECONDS)
            self._broker.dispatch_in(pipe, "fetch", self._queue, room)
            fetched: Sequence[bytes | None] = pipe.execute()[-1]
            return fetched


class JobQueue:
    """What the API and the reaper need of the queue: send a job, ask what is on it."""

    def __init__(self, client: redis.Redis, *, scripts: Scripts | None = None) -> None:
        self._client = client
        self._broker = JobBroker(client, scripts=scripts)

    def send(self, job_id: UUID, queue: QueueName) -> None:
        """Put a committed job on its queue.

        Raises:
            redis.RedisError: Redis is away; the job is not on the queue, or may be.
        """
        name = str(job_id)
        self._broker.enqueue(
            Message(
                queue_name=queue,
                actor_name=actor_name(queue),
                args=(name,),
                kwargs={},
                options={"redis_message_id": name},
                message_id=name,
            )
        )

    def send_many(self, job_ids: Sequence[UUID], queue: QueueName) -> None:
        """Put committed jobs on their queue, in this order and in one call; see `send`."""
        if job_ids:
            self._broker.enqueue_many(queue, job_ids)

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


def _job_of(data: bytes | None) -> UUID | None:
    """Return the job of a message; `None` for one that is no message of ours.

    An id without its message was purged while it waited.
    """
    if data is None:
        return None
    try:
        return UUID(Message.decode(data).message_id)
    except (DecodeError, TypeError, ValueError):
        _log.error("a message on the queue names no job")
        return None


def actor_name(queue: QueueName) -> str:
    """Return the name of the actor that runs jobs of this queue."""
    return f"run_{queue}_job"


def _message(job_id: UUID, queue: QueueName) -> Message[Any]:
    name = str(job_id)
    return Message(
        queue_name=queue,
        actor_name=actor_name(queue),
        args=(name,),
        kwargs={},
        options={"redis_message_id": name},
        message_id=name,
    )


def _doorbell(queue_name: str) -> str:
    return f"doorbell:{queue_name}"
