"""How many files one process takes in at once.

A user has two under way at most, however slowly they come. A file takes no place while it comes: to
check and to write it costs processor time, disk and a database connection of its own for a long
transaction, and so few have a place for that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from api.runtime.user_slots import Opened, OpenPerUser
from core.errors import Unavailable

#: More than those of one user: two keep nobody out.
MOST_AT_ONCE = 3
MOST_OF_A_USER = 2
#: How long a file that has come waits for its place.
WAIT_SECONDS = 30.0
RETRY_SECONDS = 5.0


class Uploads:
    def __init__(self, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._users = OpenPerUser(MOST_OF_A_USER)
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._wait_seconds = wait_seconds

    @contextmanager
    def one_more(self, user_id: UUID) -> Iterator[None]:
        """Count a file of the user from its first byte to its end.

        Raises:
            RateLimited: the user has too many under way.
        """
        with self._users.one_more(user_id, Opened.UPLOAD):
            yield

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place to check and write a file that has come.

        Raises:
            Unavailable: no place was free for too long.
        """
        if not self._places.acquire(timeout=self._wait_seconds):
            raise Unavailable(
                "other files are being taken in, try again soon",
                retry_after_seconds=RETRY_SECONDS,
            )
        try:
            yield
        finally:
            self._places.release()
