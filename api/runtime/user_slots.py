"""Bounds the connections and uploads that each user has open in this process."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from uuid import UUID

from core.errors import RateLimited

RETRY_SECONDS = 5.0


class SlotKind(Enum):
    """The use of a slot: the code and the message of the error when no slot is free."""

    STREAM = ("too_many_streams", "{most} of your connections wait or stream already")
    WAIT = ("too_many_waits", "{most} of your connections wait or stream already")
    UPLOAD = ("too_many_uploads", "{most} of your files are being uploaded already")

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        self.text = text


class UserSlots:
    """A number of slots for each user."""

    def __init__(self, most: int) -> None:
        """Take the number of slots of one user."""
        self._most = most
        self._lock = threading.Lock()
        self._used: Counter[UUID] = Counter()

    @contextmanager
    def acquire(self, user_id: UUID, kind: SlotKind) -> Iterator[None]:
        """Hold one of the user's slots while the block runs.

        Raises:
            RateLimited: the user has no free slot.
        """
        with self._lock:
            if self._used[user_id] >= self._most:
                raise RateLimited(
                    kind.text.format(most=self._most),
                    code=kind.code,
                    retry_after_seconds=RETRY_SECONDS,
                )
            self._used[user_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._used[user_id] -= 1
                if not self._used[user_id]:
                    del self._used[user_id]
