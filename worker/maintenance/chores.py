"""What any worker does for all, again and again, each thing on a thread of its own.

A chore that is slow holds up no other, and neither does one that raises something unexpected each
time: see `worker/maintenance/guard.py`. A part that is away is no such error, chores wait for it
themselves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from worker.maintenance.guard import Guard

INTERVAL_SECONDS = 2.0
JOIN_SECONDS = 5.0

#: Does a part of what there is to do, and returns.
Chore = Callable[[], None]


class Chores:
    """Runs chores from `start` to `stop`.

    Args:
        chores: by their names.
        failed: is told the name of a chore that raised.
        interval_seconds: between two runs of one chore.
    """

    def __init__(
        self,
        chores: Mapping[str, Chore],
        *,
        failed: Callable[[str], None] = lambda name: None,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._interval_seconds = interval_seconds
        self._is_stopping = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._run, args=[chore, Guard(name, failed=failed)], name=name, daemon=True
            )
            for name, chore in chores.items()
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Begin no chore any more, and wait a moment for those that are under way."""
        self._is_stopping.set()
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def _run(self, chore: Chore, guard: Guard) -> None:
        while not self._is_stopping.wait(self._interval_seconds):
            if not guard.is_resting:
                with guard:
                    chore()
