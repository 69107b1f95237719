"""How many batches one process takes in at once: each costs processor time, disk and a database
connection of its own for its long transaction.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import Unavailable

MOST_AT_ONCE = 3
RETRY_SECONDS = 5.0


class Uploads:
    def __init__(self, most: int = MOST_AT_ONCE) -> None:
        self._places = threading.BoundedSemaphore(most)

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Hold a place while the block runs.

        Raises:
            Unavailable: as many are taken in already.
        """
        if not self._places.acquire(blocking=False):
            raise Unavailable(
                "other batches are being taken in, try again soon",
                retry_after_seconds=RETRY_SECONDS,
            )
        try:
            yield
        finally:
            self._places.release()
