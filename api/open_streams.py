"""How many jobs each user follows in this process: connections are not free."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from core.errors import RateLimited

#: Of one user, in one process; a process holds 2,000 connections in all.
MOST_OF_A_USER = 200
RETRY_SECONDS = 5.0


class OpenStreams:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: Counter[UUID] = Counter()

    @contextmanager
    def one_more(self, user_id: UUID) -> Iterator[None]:
        """Count a stream of the user while the block runs.

        Raises:
            RateLimited: there are too many.
        """
        with self._lock:
            if self._open[user_id] >= MOST_OF_A_USER:
                raise RateLimited(
                    f"{MOST_OF_A_USER} streams are followed already",
                    code="too_many_streams",
                    retry_after_seconds=RETRY_SECONDS,
                )
            self._open[user_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[user_id] -= 1
                if not self._open[user_id]:
                    del self._open[user_id]
