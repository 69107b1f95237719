"""Fetches jobs from one Dramatiq queue, and acknowledges or requeues them.

Redis keys: those of `core/queueing/broker.py`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from uuid import UUID, uuid4

import redis
from dramatiq.errors import DecodeError
from dramatiq.message import Message

from core.queueing.broker import DOORBELL_LENGTH, DOORBELL_TTL_SECONDS, JobBroker, doorbell
from core.queueing.names import QueueName
from core.redis.connection import Command, RedisConnection

_log = logging.getLogger(__name__)

#: Pause before a busy consumer fetches, so that idle workers fetch first.
BACK_OFF_SECONDS = 0.05
#: Longest wait for the doorbell while the queue is empty.
IDLE_SECONDS = 1.0


class DoorbellConsumer:
    """Fetches jobs of one queue for a worker, and counts how many the worker holds.

    `fetch` blocks on the doorbell while the queue is empty, and for free slots while the worker is
    full. Dramatiq's own consumer sleeps with a growing backoff in both cases: an idle worker would
    find a job up to a second late.

    One exchange with Redis acknowledges finished jobs, waits on the doorbell and fetches the next
    jobs. Only the thread that calls `fetch` makes it. If the process or Redis dies before the
    acknowledgement, Redis delivers the messages again, and no worker can claim their jobs.

    Args:
        max_jobs: jobs of this queue that the worker may hold.
        back_off_at: with this many jobs or more, the consumer pauses before it fetches.
        idle_seconds: longest wait of one `fetch`; Dramatiq counts each call as a sign of life.
    """

    def __init__(
        self,
        broker: JobBroker,
        queue: QueueName,
        *,
        max_jobs: int,
        back_off_at: int | None = None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._broker = broker
        self._link = RedisConnection(broker.client)
        self._queue = queue
        self._max_jobs = max_jobs
        self._back_off_at = max_jobs if back_off_at is None else back_off_at
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._has_free_slot = threading.Event()
        self._held = 0
        self._acked: list[str] = []
        self._requeued: list[str] = []
        self._is_empty = False
        self._is_stopping = False
        self._wake_key = f"{doorbell(queue)}:{uuid4()}"

    @property
    def held(self) -> int:
        """Fetched jobs for which neither `ack` nor `requeue` was called yet."""
        return self._held

    def ack(self, job_id: UUID) -> None:
        """Remove a job from the queue: it needs no worker any more."""
        self._release(self._acked, job_id)

    def requeue(self, job_id: UUID) -> None:
        """Return a job to the queue."""
        self._release(self._requeued, job_id)

    def stop_fetching(self) -> None:
        """Fetch nothing from now on; held jobs stay with this worker."""
        self._is_stopping = True
        self.wake()

    def wake(self) -> None:
        """Make a waiting `fetch` return. With Redis away it returns after `idle_seconds`."""
        self._has_free_slot.set()
        try:
            with self._broker.client.pipeline(transaction=False) as pipe:
                pipe.lpush(self._wake_key, 1)
                pipe.expire(self._wake_key, DOORBELL_TTL_SECONDS)
                pipe.execute()
        except redis.RedisError:
            _log.warning("cannot wake a consumer: Redis is away")

    def fetch(self) -> list[UUID]:
        """Return new jobs, at most one for each free slot; none after `idle_seconds`.

        Raises:
            redis.RedisError: Redis is away. It delivers held jobs again; each is claimed once.
        """
        try:
            return self._fetch()
        except redis.RedisError:
            self._broker.start_over()
            raise

    def flush(self) -> None:
        """Send pending acknowledgements and requeues, and a sign of life.

        Raises:
            redis.RedisError: Redis is away.
        """
        self._exchange(0)

    def _fetch(self) -> list[UUID]:
        self._has_free_slot.clear()
        if self._held >= self._back_off_at:
            self._has_free_slot.wait(BACK_OFF_SECONDS)
        free = 0 if self._is_stopping else max(0, self._max_jobs - self._held)
        # Exchange without a free slot too: each call is this worker's sign of life to Dramatiq.
        # Wait only after a fetch that emptied the queue: jobs that came since rang the doorbell.
        fetched = self._exchange(free, waits=self._is_empty and free > 0)
        self._is_empty = len(fetched) < free
        if not free:
            self._has_free_slot.wait(self._idle_seconds)
        jobs = [job for data in fetched if (job := _job_of(data)) is not None]
        with self._lock:
            if self._is_stopping:  # since it waited on the doorbell
                self._requeued += map(str, jobs)
                return []
            self._held += len(jobs)
        return jobs

    def _release(self, released: list[str], job_id: UUID) -> None:
        with self._lock:
            released.append(str(job_id))
            self._held -= 1
        self._has_free_slot.set()

    def _exchange(self, free: int, *, waits: bool = False) -> Sequence[bytes | None]:
        """Send acknowledgements and requeues, and fetch up to `free` messages.

        Args:
            waits: block on the doorbell before the fetch.
        """
        with self._lock:
            acked, requeued = list(self._acked), list(self._requeued)
        commands = self._release_commands(acked, requeued)
        if waits:
            commands.append(("BLPOP", doorbell(self._queue), self._wake_key, self._idle_seconds))
        commands.append(self._broker.dispatch_command("fetch", self._queue, free))
        replies = self._link.run_scripts(commands, lambda unknown: self._broker.load())
        for reply in replies:
            if isinstance(reply, redis.RedisError):
                raise reply
        with self._lock:
            del self._acked[: len(acked)]
            del self._requeued[: len(requeued)]
        fetched: Sequence[bytes | None] = replies[-1]
        return fetched

    def _release_commands(self, acked: Sequence[str], requeued: Sequence[str]) -> list[Command]:
        commands = [self._broker.dispatch_command("ack", self._queue, job_id) for job_id in acked]
        if requeued:
            bell = doorbell(self._queue)
            commands.append(self._broker.dispatch_command("requeue", self._queue, *requeued))
            commands += [("LPUSH", bell, 1)] * min(len(requeued), DOORBELL_LENGTH)
            commands.append(("EXPIRE", bell, DOORBELL_TTL_SECONDS))
        return commands


def _job_of(data: bytes | None) -> UUID | None:
    """Return the job of a message; `None` for a purged or foreign message."""
    if data is None:  # the message was purged, its id was still on the queue
        return None
    try:
        return UUID(Message.decode(data).message_id)
    except (DecodeError, TypeError, ValueError):
        _log.error("a message on the queue names no job")
        return None
