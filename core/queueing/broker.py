"""Queues job ids with Dramatiq over Redis, with a doorbell that wakes idle workers at once.

A message contains only a job's id; the row in PostgreSQL is the truth. The message's id in Redis is
the job's id too, so that any process can check whether a job is on its queue.

Redis keys, beside Dramatiq's own below `dramatiq:` (see its dispatch.lua):
    doorbell:{queue}        list; each message pushes an entry; an idle consumer waits for one
    doorbell:{queue}:{id}   list; wakes this one consumer when it must stop
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
#: After this long without a heartbeat, at most, another worker gets a worker's messages. It is
#: shorter for short leases, but long enough for several heartbeats of a live worker.
BROKER_HEARTBEAT_MS = 10_000
LEAST_HEARTBEAT_MS = 3_000
#: Every command checks for messages of dead workers (Dramatiq counts per million).
ALWAYS = 1_000_000
#: The most entries of a doorbell: one entry wakes one consumer.
DOORBELL_LENGTH = 64
DOORBELL_TTL_SECONDS = 60


#: Precedes Dramatiq's script, whose callers pass the time: a worker whose clock is ahead would
#: count as alive long after its end, and its fetched messages would wait as long.
_USE_CLOCK_OF_REDIS = b"""
local time = redis.call("time")
ARGV[2] = string.format("%.0f", time[1] * 1000 + math.floor(time[2] / 1000))
"""


class JobBroker(RedisBroker):
    """Dramatiq's Redis broker with job ids as message ids, a doorbell and no delayed messages.

    It uses none of Dramatiq's retries, time limits and results: a job's attempts are counted in its
    row. It does not use Dramatiq's `Worker`, which holds a thread for each message:
    `worker/jobs/consumer.py` fetches jobs.

    Args:
        scripts: the scripts of this process, to share their connection.
        lease_seconds: the lease of a job in the database.
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
        self.scripts["dispatch"] = client.register_script(_USE_CLOCK_OF_REDIS + dispatch)
        text = files("core.queueing").joinpath("broker.lua").read_text()
        self._put = (scripts or Scripts(client)).register(text)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Enqueue a message and ring the doorbell. Raises `redis.RedisError` if Redis is away."""
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
        """Enqueue the messages of jobs, in this order and in one call."""
        entries: list[str | bytes] = []
        for job_id in job_ids:
            entries += [str(job_id), _message(job_id, queue).encode()]
        name = f"{NAMESPACE}:{queue}"
        self._put(
            keys=[f"{name}.msgs", name, doorbell(queue)],
            args=[*entries[:2], DOORBELL_LENGTH, DOORBELL_TTL_SECONDS, *entries[2:]],
        )

    def start_over(self) -> None:
        """Take a new worker id, so that the messages of a lost reply are delivered again.

        A message whose fetch ran but whose reply was lost would wait for ever under the id of a
        live worker. The old id soon counts as dead, and claims are conditional.
        """
        self.broker_id = str(uuid4())

    def dispatch_command(self, command: str, queue_name: str, *args: Any) -> Command:
        """Return the Redis command for a command of Dramatiq, like `do_…` of `RedisBroker`.

        Its reply is `NoScriptError` until `load` was called.
        """
        return (
            *("EVALSHA", self.scripts["dispatch"].sha, 1, self.namespace),
            command,
            0,  # the script reads the time of Redis
            queue_name,
            self.broker_id,
            self.heartbeat_timeout,
            self.dead_message_ttl,
            self._should_do_maintenance(command),
            self._max_unpack_size(),
            *args,
        )

    def load(self) -> None:
        """Load Dramatiq's script into Redis, for `dispatch_command`."""
        self.client.script_load(self.scripts["dispatch"].script)


class JobQueue:
    """The queue for the API and the reaper: enqueues jobs and finds missing ones."""

    def __init__(self, client: redis.Redis, *, scripts: Scripts | None = None) -> None:
        self._client = client
        self._broker = JobBroker(client, scripts=scripts)

    def send(self, job_id: UUID, queue: QueueName) -> None:
        """Enqueue a committed job.

        Raises:
            redis.RedisError: Redis is away; the job may be on the queue.
        """
        self._broker.enqueue(_message(job_id, queue))

    def send_many(self, job_ids: Sequence[UUID], queue: QueueName) -> None:
        """Enqueue committed jobs, in this order and in one call; see `send`."""
        if job_ids:
            self._broker.enqueue_many(queue, job_ids)

    def missing(self, job_ids: Iterable[UUID], queue: QueueName) -> list[UUID]:
        """Return those of `job_ids` that neither wait on the queue nor are held by a worker."""
        ids = list(job_ids)
        with self._client.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hexists(f"{NAMESPACE}:{queue}.msgs", str(job_id))
            known = pipe.execute()
        return [job_id for job_id, is_known in zip(ids, known, strict=True) if not is_known]

    def length(self, queue: QueueName) -> int:
        """Return how many jobs wait on the queue, without those held by workers."""
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
    """Return the doorbell of a queue."""
    return f"doorbell:{queue_name}"
