"""Background traffic: an action that threads repeat during a block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Between two calls of a thread, so that the machine has time for other work.
PAUSE_SECONDS = 0.1
JOIN_SECONDS = 90


@contextmanager
def repeating(action: Callable[[], object], *, threads: int = 1) -> Iterator[None]:
    """Repeat an action in threads during the block."""
    is_over = threading.Event()

    def run() -> None:
        while not is_over.wait(PAUSE_SECONDS):
            action()

    workers = [threading.Thread(target=run, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        is_over.set()
        for worker in workers:
            worker.join(JOIN_SECONDS)
