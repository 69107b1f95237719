"""Polls one queue on its own thread, and hands each job to the runner."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import redis

from worker.jobs.consumer import DoorbellConsumer
from worker.jobs.run import JobMessage

_log = logging.getLogger(__name__)

#: Pause after an error.
RETRY_SECONDS = 0.5
JOIN_SECONDS = 2.0


class Poller:
    """Passes jobs on as they arrive, as many as its consumer may hold.

    With Redis away it fetches nothing, and running jobs continue. If this process dies, Dramatiq
    delivers its messages to other workers.
    """

    def __init__(
        self,
        consumer: DoorbellConsumer,
        accept: Callable[[Sequence[JobMessage]], None],
        *,
        name: str,
    ) -> None:
        self._consumer = consumer
        self._accept = accept
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop_fetching(self) -> None:
        """Fetch nothing from now on; continue to acknowledge finished jobs."""
        self._consumer.stop_fetching()

    def stop(self) -> None:
        """Send pending acknowledgements, and stop."""
        self._is_closing.set()
        self._consumer.wake()
        self._thread.join(timeout=JOIN_SECONDS)

    def _run(self) -> None:
        while not self._is_closing.is_set():
            try:
                jobs = self._consumer.fetch()
                if jobs:
                    self._accept([JobMessage(job_id, self._consumer) for job_id in jobs])
            except redis.RedisError as error:
                _log.warning("cannot fetch jobs, Redis is away: %s", type(error).__name__)
                self._is_closing.wait(RETRY_SECONDS)
            except Exception:
                # Broad on purpose: a worker that stops polling would stay idle for ever.
                _log.exception("cannot fetch jobs")
                self._is_closing.wait(RETRY_SECONDS)
        try:
            self._consumer.flush()
        except redis.RedisError:
            _log.warning("Redis is away: finished jobs are delivered again, and claimed once")
