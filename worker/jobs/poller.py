"""Takes the jobs of one queue for this worker, on a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import redis

from worker.jobs.consumer import DoorbellConsumer
from worker.jobs.run import Taken

_log = logging.getLogger(__name__)

#: After an error of Redis.
RETRY_SECONDS = 0.5
JOIN_SECONDS = 2.0


class Taker:
    """Hands jobs on as they come, as many as its consumer may hold.

    When Redis is away nothing is taken, and jobs that were taken go on. When this process dies,
    Dramatiq delivers its messages to others.
    """

    def __init__(
        self, consumer: DoorbellConsumer, hand_on: Callable[[Sequence[Taken]], None], *, name: str
    ) -> None:
        self._consumer = consumer
        self._hand_on = hand_on
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop_taking(self) -> None:
        """Take nothing from now on, and go on to say which of the jobs here are done."""
        self._consumer.stop_taking()

    def stop(self) -> None:
        """Say what is done, and stop."""
        self._is_closing.set()
        self._consumer.wake()
        self._thread.join(timeout=JOIN_SECONDS)

    def _run(self) -> None:
        while not self._is_closing.is_set():
            try:
                jobs = self._consumer.take()
                if jobs:
                    self._hand_on([Taken(job_id, self._consumer) for job_id in jobs])
            except redis.RedisError as error:
                _log.warning("no jobs are taken, Redis is away: %s", type(error).__name__)
                self._is_closing.wait(RETRY_SECONDS)
            except Exception:
                # Broad on purpose: a worker that takes nothing more would stand idle for ever.
                _log.exception("jobs could not be taken")
                self._is_closing.wait(RETRY_SECONDS)
        try:
            self._consumer.flush()
        except redis.RedisError:
            _log.warning("Redis is away: what was done here is delivered again, and done once")
