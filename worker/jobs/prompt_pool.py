"""The few threads that read the prompts of claimed jobs and hand them to the engine."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from queue import PriorityQueue

from core.queueing.names import QueueName
from worker.jobs.run import Run

_log = logging.getLogger(__name__)

#: Several, so that others go on while the longest prompts are read; the tokenizer lets them.
THREADS = 4
JOIN_SECONDS = 2.0
#: After all jobs.
_STOP = 2


class Beginners:
    """Runs `begin` for each job, interactive ones first.

    Args:
        begin: must not raise; it takes as long as reading a prompt takes.
    """

    def __init__(self, begin: Callable[[Run], None], *, threads: int = THREADS) -> None:
        self._begin = begin
        # Never longer than the jobs that the worker may hold.
        self._waiting: PriorityQueue[tuple[int, int, Run | None]] = PriorityQueue()
        self._count = itertools.count()
        self._threads = [
            threading.Thread(target=self._run, name=f"begin-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def put(self, run: Run) -> None:
        is_bulk = run.job.queue == QueueName.BULK
        self._waiting.put((int(is_bulk), next(self._count), run))

    def stop(self) -> None:
        """Begin what waits, and stop."""
        for _ in self._threads:
            self._waiting.put((_STOP, next(self._count), None))
        for thread in self._threads:
            thread.join(timeout=JOIN_SECONDS)

    def _run(self) -> None:
        while (run := self._waiting.get()[2]) is not None:
            try:
                self._begin(run)
            except Exception:
                # Broad on purpose: the others must begin. This one stays held until we leave.
                _log.exception("a job could not be begun", extra={"job": run.job.id.hex})
