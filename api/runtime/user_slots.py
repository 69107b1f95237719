"""How much each user has open in this process: connections that wait or stream, and uploads."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from uuid import UUID

from core.errors import RateLimited

RETRY_SECONDS = 5.0


class Opened(Enum):
    """What is open: the code of the refusal, and what that says."""

    STREAM = ("too_many_streams", "{most} connections of yours wait or stream already")
    WAIT = ("too_many_waits", "{most} connections of yours wait or stream already")
    UPLOAD = ("too_many_uploads", "{most} files of yours are being taken in already")

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        self.text = text


class OpenPerUser:
    def __init__(self, most: int) -> None:
        """Take how much one user may have open."""
        self._most = most
        self._lock = threading.Lock()
        self._open: Counter[UUID] = Counter()

    @contextmanager
    def one_more(self, user_id: UUID, what: Opened) -> Iterator[None]:
        """Count one more of the user while the block runs.

        Raises:
            RateLimited: the user has too many.
        """
        with self._lock:
            if self._open[user_id] >= self._most:
                raise RateLimited(
                    what.text.format(most=self._most),
                    code=what.code,
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
