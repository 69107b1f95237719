"""Measures the backlog of the interactive queue in seconds, and rejects jobs beyond a bound.

Each process caches the state for `CACHE_SECONDS`, so that a request rarely waits for Redis.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from core.errors import Unavailable
from core.queueing.broker import JobQueue
from core.queueing.names import QueueName
from core.queueing.workers import WorkerRegistry

CACHE_SECONDS = 0.5
#: `Retry-After` while no worker is ready and the wait is unknown.
UNKNOWN_SECONDS = 10.0


@dataclass(slots=True)
class BacklogState:
    """The state of the interactive queue at one moment.

    Attributes:
        waiting: jobs on the queue, and jobs that workers hold beyond what they can run at once.
        jobs_per_second: throughput of all ready workers together at full load; 0 is unknown, until
            one of them was full for a while.
        context_length: tokens that every ready worker accepts; `None` while none is ready.
    """

    waiting: int
    jobs_per_second: float
    context_length: int | None = None

    @property
    def seconds(self) -> float | None:
        """The seconds that a new job would wait; `None` if unknown."""
        return self.seconds_for(self.waiting)

    def seconds_for(self, jobs: int) -> float | None:
        """Return the seconds that this many jobs take; `None` if unknown."""
        return jobs / self.jobs_per_second if self.jobs_per_second else None


class Backlog:
    def __init__(
        self,
        queue: JobQueue,
        workers: WorkerRegistry,
        *,
        max_seconds: float,
        max_length: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the sources of the state, and the bounds in seconds and in jobs."""
        self._queue = queue
        self._workers = workers
        self._max_seconds = max_seconds
        self._max_length = max_length
        self._clock = clock
        self._state: BacklogState | None = None
        self._next_read_at = 0.0

    def seconds_for(self, jobs_before: int) -> float | None:
        """Return the seconds until the job behind `jobs_before` others begins; `None` if unknown.

        Raises:
            redis.RedisError: Redis is away.
        """
        return self.state().seconds_for(jobs_before)

    def context_length(self) -> int | None:
        """Return the tokens that every ready worker accepts; `None` while none is ready.

        Raises:
            redis.RedisError: Redis is away.
        """
        return self.state().context_length

    def check(self) -> None:
        """Admit one more job.

        Raises:
            Unavailable: the backlog is too long.
            redis.RedisError: Redis is away.
        """
        state = self.state()
        seconds = state.seconds
        if seconds is not None and seconds > self._max_seconds:
            raise Unavailable(
                f"the queue is {seconds:.0f} seconds long",
                code="overloaded",
                retry_after_seconds=seconds - self._max_seconds,
            )
        if state.waiting >= self._max_length:
            until_free = state.seconds_for(state.waiting - self._max_length + 1)
            raise Unavailable(
                f"{state.waiting} jobs wait in the queue",
                code="overloaded",
                retry_after_seconds=UNKNOWN_SECONDS if until_free is None else until_free,
            )
        # Count admitted jobs until the next read: a burst in between must not exceed the bound.
        state.waiting += 1

    def state(self) -> BacklogState:
        """Return the state as it was at most `CACHE_SECONDS` ago.

        Raises:
            redis.RedisError: Redis is away.
        """
        now = self._clock()
        if self._state is None or now >= self._next_read_at:
            # Update the time first, so that other threads use the cached state while we refresh it.
            self._next_read_at = now + CACHE_SECONDS
            self._state = self._read()
        return self._state

    def _read(self) -> BacklogState:
        ready = self._workers.ready()
        known = [worker.jobs_per_second for worker in ready if worker.jobs_per_second > 0]
        return BacklogState(
            waiting=self._queue.length(QueueName.INTERACTIVE)
            + sum(worker.waiting for worker in ready),
            # A worker that has not been full yet counts as fast as the others.
            jobs_per_second=len(ready) * sum(known) / len(known) if known else 0.0,
            context_length=min((worker.context_length for worker in ready), default=None),
        )
