"""The queue of job ids: Dramatiq over Redis, with a doorbell so that an idle worker begins at once.

A message carries a job's id and nothing else; the row in PostgreSQL is the truth. A message's id in
Redis is the job's id, so that anyone can ask whether a job is on its queue.

Redis keys, beside Dramatiq's own below `dramatiq:` (see its dispatch.lua):
    doorbell:{queue}        list; an entry is pushed with each message, an idle consumer waits on it
    doorbell:{queue}:{id}   list; wakes this one consumer, when it shall stop
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any
from uuid import UUID, uuid4

import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.message import Message

from core.queueing.names import QueueName, actor_name
from core.redis.connection import Command
from core.redis.scripts import Scripts

NAMESPACE = "dramatiq"
#: After this long without a sign of life, at most, a worker's messages go to another: sooner where
#: leases are shorter, but not before a worker that lives has missed several.
BROKER_HEARTBEAT_MS = 10_000
LEAST_HEARTBEAT_MS = 3_000
#: Every command looks for messages of dead workers (Dramatiq counts per million).
ALWAYS = 1_000_000
#: A doorbell never grows beyond this: one entry wakes one consumer, more are noise.
DOORBELL_LENGTH = 64
DOORBELL_TTL_SECONDS = 60


#: Before Dramatiq's script, which is told the time by its callers: a worker whose clock is ahead
#: would count as living long after its end, and what it had fetched would wait as long.
_BY_ITS_OWN_CLOCK = b"""
local time = redis.call("time")
ARGV[2] = string.format("%.0f", time[1] * 1000 + math.floor(time[2] / 1000))
"""


class JobBroker(RedisBroker):
    """Dramatiq's Redis broker with job ids as message ids, a doorbell and no delayed messages.

    Retries, time limits and results are not Dramatiq's here: a job's attempts are counted in its
    row. Nor is its `Worker`, which holds a thread for each message: jobs are taken by
    `worker/jobs/consumer.py`.

    Args:
        scripts: what this process runs scripts with, if others use it too.
        lease_seconds: how long a worker may be silent in the database.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        scripts: Scripts | None = None,
        lease_seconds: float = math.inf,
    ) -> None:
        super().__init__(
            client=client,
            middleware=[],
            namespace=NAMESPACE,
            maintenance_chance=ALWAYS,
            heartbeat_timeout=round(
                min(BROKER_HEARTBEAT_MS, max(LEAST_HEARTBEAT_MS, 1000 * lease_seconds))
            ),
        )
        dispatch: Any = self.scripts["dispatch"].script
        self.scripts["dispatch"] = client.register_script(_BY_ITS_OWN_CLOCK + dispatch)
        text = files("core.queueing").joinpath("broker.lua").read_text()
        self._put = (scripts or Scripts(client)).register(text)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Put a message on its queue and ring. Raises `redis.RedisError` when Redis is away."""
        if delay is not None:
            raise ValueError("delayed messages are not used")
        if "redis_message_id" not in message.options:
            message = message.copy(options={"redis_message_id": message.message_id})
        name = f"{NAMESPACE}:{message.queue_name}"
        self._put(
            keys=[f"{name}.msgs", name, doorbell(message.queue_name)],
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
            keys=[f"{name}.msgs", name, doorbell(queue)],
            args=[*parts[:2], DOORBELL_LENGTH, DOORBELL_TTL_SECONDS, *parts[2:]],
        )

    def start_over(self) -> None:
        """Become another worker to Dramatiq, so that what a lost answer held is given out again.

        A message whose fetch was carried out but not answered would wait for ever in the name of a
        worker that lives. Under its old name it counts as dead soon; claims are conditional.
        """
        self.broker_id = str(uuid4())

    def dispatch_command(self, command: str, queue_name: str, *args: Any) -> Command:
        """Return what carries out a command of Dramatiq's, as `do_…` of `RedisBroker` would.

        Its answer is `NoScriptError` before the first `load` on a Redis.
        """
        return (
            *("EVALSHA", self.scripts["dispatch"].sha, 1, self.namespace),
            command,
            0,  # Redis knows the time
            queue_name,
            self.broker_id,
            self.heartbeat_timeout,
            self.dead_message_ttl,
            self._should_do_maintenance(command),
            self._max_unpack_size(),
            *args,
        )

    def load(self) -> None:
        """Make Dramatiq's script known to a Redis that has lost it, for `dispatch_command`."""
        self.client.script_load(self.scripts["dispatch"].script)


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
        self._broker.enqueue(_message(job_id, queue))

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


def doorbell(queue_name: str) -> str:
    """Return the list that rings when something comes onto a queue."""
    return f"doorbell:{queue_name}"
