"""Takes jobs off one queue of Dramatiq's for a worker, and says what became of them.

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

#: How long a consumer with enough to do leaves new jobs to those with less.
STEP_BACK_SECONDS = 0.05
#: How long a consumer that has nothing to take waits for the doorbell before it looks around.
IDLE_SECONDS = 1.0


class DoorbellConsumer:
    """Takes jobs of one queue for a worker; it knows how many of them the worker still holds.

    It waits on the doorbell when the queue is empty, and for room when its worker is full.
    Dramatiq's own consumer sleeps with a growing backoff in both cases: an idle worker would find
    a job up to a second late.

    One exchange with Redis acknowledges the jobs that are done, waits on the doorbell and fetches
    the next ones; the one thread that calls `take` makes it. If the process or Redis dies before
    the acknowledgement, the messages are delivered again, and nobody can claim their jobs.

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
        self._link = RedisConnection(broker.client)
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
        self._wake_key = f"{doorbell(queue)}:{uuid4()}"

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
        if self._held >= self._eager:
            self._room.wait(STEP_BACK_SECONDS)
        room = 0 if self._is_stopping else max(0, self._most - self._held)
        # Asked even without room: each call is this worker's sign of life to Dramatiq. Whatever
        # came since a look that found too little has rung.
        fetched = self._exchange(room, waits=self._is_empty and room > 0)
        self._is_empty = len(fetched) < room
        if not room:
            self._room.wait(self._idle_seconds)
        jobs = [job for data in fetched if (job := _job_of(data)) is not None]
        with self._lock:
            if self._is_stopping:  # said while it waited on the doorbell
                self._back += map(str, jobs)
                return []
            self._held += len(jobs)
        return jobs

    def _let_go(self, told: list[str], job_id: UUID) -> None:
        with self._lock:
            told.append(str(job_id))
            self._held -= 1
        self._room.set()

    def _exchange(self, room: int, *, waits: bool = False) -> Sequence[bytes | None]:
        """Tell what was done and given back, fetch as many jobs as there is room for.

        Args:
            waits: until the doorbell rings, between both.
        """
        with self._lock:
            done, back = list(self._done), list(self._back)
        commands = self._tell(done, back)
        if waits:
            commands.append(self._wait())
        commands.append(self._broker.dispatch_command("fetch", self._queue, room))
        answers = self._link.run_scripts(commands, lambda unknown: self._broker.load())
        for answer in answers:
            if isinstance(answer, redis.RedisError):
                raise answer
        with self._lock:
            del self._done[: len(done)]
            del self._back[: len(back)]
        fetched: Sequence[bytes | None] = answers[-1]
        return fetched

    def _tell(self, done: Sequence[str], back: Sequence[str]) -> list[Command]:
        told = [self._broker.dispatch_command("ack", self._queue, job_id) for job_id in done]
        if back:
            bell = doorbell(self._queue)
            told.append(self._broker.dispatch_command("requeue", self._queue, *back))
            told += [("LPUSH", bell, 1)] * min(len(back), DOORBELL_LENGTH)
            told.append(("EXPIRE", bell, DOORBELL_TTL_SECONDS))
        return told

    def _wait(self) -> Command:
        return ("BLPOP", doorbell(self._queue), self._wake_key, self._idle_seconds)


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
