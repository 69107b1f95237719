"""Runs the regular work of one worker for all, each chore on its own thread.

A slow chore delays no other chore, and neither does one that fails each time: see
`worker/maintenance/guard.py`. An absent server is not a failure; chores handle it themselves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from worker.maintenance.guard import Guard

INTERVAL_SECONDS = 2.0
JOIN_SECONDS = 5.0

#: Makes one pass, and returns.
Chore = Callable[[], None]


class Chores:
    """Runs chores from `start` to `stop`.

    Args:
        chores: chores by name.
        count_failure: receives the name of a chore that raised.
        interval_seconds: pause between two runs of one chore.
    """

    def __init__(
        self,
        chores: Mapping[str, Chore],
        *,
        count_failure: Callable[[str], None] = lambda name: None,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._interval_seconds = interval_seconds
        self._is_stopping = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._run,
                args=[chore, Guard(name, count_failure=count_failure)],
                name=name,
                daemon=True,
            )
            for name, chore in chores.items()
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Start no more chores, and wait up to `JOIN_SECONDS` for the running ones."""
        self._is_stopping.set()
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def _run(self, chore: Chore, guard: Guard) -> None:
        while not self._is_stopping.wait(self._interval_seconds):
            if not guard.is_backing_off:
                with guard:
                    chore()
