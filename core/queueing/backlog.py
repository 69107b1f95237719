"""The interactive line: how long it is in seconds of work, and whether one more may join it.

What is asked of Redis is kept for a moment in each process, so that it costs a request nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from core.errors import Unavailable
from core.queueing.broker import JobQueue
from core.queueing.names import QueueName
from core.queueing.workers import WorkerRegistry

LOOK_SECONDS = 0.5
#: When a line that nobody works on will move, nobody knows.
UNKNOWN_SECONDS = 10.0


@dataclass(slots=True)
class BacklogState:
    """The line at one look.

    Attributes:
        waiting: jobs on the queue, and in workers that have more than they can run at once.
        jobs_per_second: what all ready workers end together when they are full; 0 is unknown, as
            long as none has been full for a while.
        context_length: what each ready worker takes; `None` while none is ready.
    """

    waiting: int
    jobs_per_second: float
    context_length: int | None = None

    def seconds_for(self, position: int) -> float | None:
        """Return how long it takes to end this many jobs; `None` if that is not known."""
        return position / self.jobs_per_second if self.jobs_per_second else None


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
        """Take what tells about the line, and how long it may be."""
        self._queue = queue
        self._workers = workers
        self._max_seconds = max_seconds
        self._max_length = max_length
        self._clock = clock
        self._state: BacklogState | None = None
        self._look_again_at = 0.0

    def estimate(self) -> float | None:
        """Return the seconds that a job joining now would wait; `None` if that is not known.

        Raises:
            redis.RedisError: Redis is away.
        """
        state = self._look()
        return state.seconds_for(state.waiting)

    def seconds_for(self, position: int) -> float | None:
        """Return the seconds until a job with this many before it begins, if that is known.

        Raises:
            redis.RedisError: Redis is away.
        """
        return self._look().seconds_for(position)

    def context_length(self) -> int | None:
        """Return the tokens that prompt and answer may have in every ready worker, if one is.

        Raises:
            redis.RedisError: Redis is away.
        """
        return self._look().context_length

    def check(self) -> None:
        """Let one more job join.

        Raises:
            Unavailable: the line is too long.
            redis.RedisError: Redis is away.
        """
        state = self._look()
        seconds = state.seconds_for(state.waiting)
        if seconds is not None and seconds > self._max_seconds:
            raise Unavailable(
                f"the line is {seconds:.0f} seconds long",
                code="overloaded",
                retry_after_seconds=seconds - self._max_seconds,
            )
        if state.waiting >= self._max_length:
            until_free = state.seconds_for(state.waiting - self._max_length + 1)
            raise Unavailable(
                f"{state.waiting} jobs wait in line",
                code="overloaded",
                retry_after_seconds=UNKNOWN_SECONDS if until_free is None else until_free,
            )
        # Counted here until the next look: a burst within one look must not slip through.
        state.waiting += 1

    def _look(self) -> BacklogState:
        now = self._clock()
        if self._state is None or now >= self._look_again_at:
            # Set first: the others of this process go on with the last look meanwhile.
            self._look_again_at = now + LOOK_SECONDS
            self._state = self._read()
        return self._state

    def _read(self) -> BacklogState:
        ready = self._workers.ready()
        known = [worker.jobs_per_second for worker in ready if worker.jobs_per_second > 0]
        return BacklogState(
            waiting=self._queue.length(QueueName.INTERACTIVE)
            + sum(worker.waiting for worker in ready),
            # Who has not been full yet will be as fast as the others.
            jobs_per_second=len(ready) * sum(known) / len(known) if known else 0.0,
            context_length=min((worker.context_length for worker in ready), default=None),
        )
