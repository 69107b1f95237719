"""A few threads that tokenize the prompts of claimed jobs and submit them."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from queue import PriorityQueue

from core.queueing.names import QueueName
from worker.jobs.run import Run

_log = logging.getLogger(__name__)

#: Several, so that a long prompt does not delay others; the tokenizer releases the GIL.
THREADS = 4
JOIN_SECONDS = 2.0
#: Sorts after all jobs.
_STOP = 2


class PromptPool:
    """Calls `submit` for each job, interactive jobs first.

    Args:
        submit: tokenizes a prompt and gives it to the engine; must not raise.
    """

    def __init__(self, submit: Callable[[Run], None], *, threads: int = THREADS) -> None:
        self._submit = submit
        # Bounded by the jobs that the worker may hold.
        self._waiting: PriorityQueue[tuple[int, int, Run | None]] = PriorityQueue()
        self._count = itertools.count()
        self._threads = [
            threading.Thread(target=self._run, name=f"prompt-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def put(self, run: Run) -> None:
        is_bulk = run.job.queue == QueueName.BULK
        self._waiting.put((int(is_bulk), next(self._count), run))

    def stop(self) -> None:
        """Submit the waiting jobs, and stop."""
        for _ in self._threads:
            self._waiting.put((_STOP, next(self._count), None))
        for thread in self._threads:
            thread.join(timeout=JOIN_SECONDS)

    def _run(self) -> None:
        while (run := self._waiting.get()[2]) is not None:
            try:
                self._submit(run)
            except Exception:
                # Broad on purpose: other jobs must start. This one stays held until we leave.
                _log.exception("cannot start a job", extra={"job": run.job.id.hex})
