"""Bounds the files that one process receives and writes at the same time.

A user may have two uploads in progress, however slow they are. A file holds no writer's slot while
it arrives. Checking and writing a file takes processor time, disk space and a database connection
of its own for a long transaction, so the process has few slots for that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from api.runtime.user_slots import SlotKind, UserSlots
from core.errors import Unavailable

#: More than `MAX_PER_USER`: one user cannot hold all slots.
MAX_WRITERS = 3
MAX_PER_USER = 2
#: How long a received file waits for a writer's slot.
WAIT_SECONDS = 30.0
RETRY_SECONDS = 5.0


class UploadSlots:
    """The slots of one process for uploads."""

    def __init__(self, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._users = UserSlots(MAX_PER_USER)
        self._writers = threading.BoundedSemaphore(MAX_WRITERS)
        self._wait_seconds = wait_seconds

    @contextmanager
    def acquire(self, user_id: UUID) -> Iterator[None]:
        """Hold one of the user's slots, from the first byte of a file to the end of its upload.

        Raises:
            RateLimited: the user has too many uploads in progress.
        """
        with self._users.acquire(user_id, SlotKind.UPLOAD):
            yield

    @contextmanager
    def acquire_writer(self) -> Iterator[None]:
        """Hold a slot to check and write a received file.

        Raises:
            Unavailable: no slot was free within `WAIT_SECONDS`.
        """
        if not self._writers.acquire(timeout=self._wait_seconds):
            raise Unavailable(
                "the service is processing other files, try again soon",
                retry_after_seconds=RETRY_SECONDS,
            )
        try:
            yield
        finally:
            self._writers.release()
