"""Parses and counts one large request at a time in a process, round robin over users.

To parse and check a body of megabytes takes tens of milliseconds, in which no other greenlet of the
process runs. So large requests wait for a lock; load shedding does not count this wait. After each
of them, the process works on other requests for a few times as long. Small requests never wait
here. The lock is fair: the twelfth large request of one user comes after the first of another.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from uuid import UUID

from flask import Flask, g

from core.errors import Unavailable

#: Smaller bodies take little time to parse.
LARGE_BYTES = 64 * 1024
#: The pause after a large request, as a multiple of the time that it took.
PAUSE_FACTOR = 3.0
MAX_PAUSE_SECONDS = 0.5
#: Time to receive a body, which the process spends before the request holds the lock.
SECONDS_PER_BYTE = 2e-8
#: Large requests that wait in one process: of all users, and of one user.
MAX_WAITING = 64
MAX_WAITING_PER_USER = 16
MAX_WAIT_SECONDS = 10.0
RETRY_SECONDS = 3.0


class LargeRequestLock:
    """The lock of one process."""

    def __init__(
        self,
        *,
        max_wait_seconds: float = MAX_WAIT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._max_wait_seconds = max_wait_seconds
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._waiting: OrderedDict[UUID, deque[threading.Event]] = OrderedDict()
        self._is_locked = False
        self._paused_until = 0.0

    def acquire(self, user_id: UUID, size: int) -> Callable[[], None]:
        """Wait for the lock; returns the function that releases it.

        Args:
            size: bytes of the body.

        Raises:
            Unavailable: too many requests wait already, or this one waited too long.
        """
        self._wait(user_id)
        self._sleep(max(0.0, self._paused_until - self._clock()))
        began = self._clock()

        def release() -> None:
            seconds = self._clock() - began + size * SECONDS_PER_BYTE
            self._paused_until = self._clock() + min(MAX_PAUSE_SECONDS, PAUSE_FACTOR * seconds)
            with self._lock:
                self._pass_on()

        return release

    def _wait(self, user_id: UUID) -> None:
        with self._lock:
            if not self._is_locked:
                self._is_locked = True
                return
            mine = self._waiting.get(user_id, deque())
            if len(mine) >= MAX_WAITING_PER_USER or self._count() >= MAX_WAITING:
                raise _overloaded("too many large requests wait")
            is_granted = threading.Event()
            mine.append(is_granted)
            self._waiting[user_id] = mine
        if is_granted.wait(self._max_wait_seconds):
            return
        with self._lock:
            if is_granted.is_set():  # granted at the last moment
                return
            mine.remove(is_granted)
            if not mine:
                self._waiting.pop(user_id, None)
        raise _overloaded("large requests wait too long")

    def _count(self) -> int:
        return sum(map(len, self._waiting.values()))

    def _pass_on(self) -> None:
        if not self._waiting:
            self._is_locked = False
            return
        user_id, waiting = self._waiting.popitem(last=False)
        waiting.popleft().set()
        if waiting:
            self._waiting[user_id] = waiting  # after all other users


def acquire_large_request_lock(lock: LargeRequestLock, user_id: UUID, size: int) -> None:
    """Acquire the lock for the current request, until its release or the end of the request.

    Raises:
        Unavailable: too many requests wait already, or this one waited too long.
    """
    g.release_large_request_lock = lock.acquire(user_id, size)


def release_large_request_lock() -> None:
    """Release the lock if the current request holds it."""
    release = g.pop("release_large_request_lock", None)
    if release is not None:
        release()


def register_large_requests(app: Flask) -> None:
    """Release the lock at the end of each request."""
    app.teardown_request(lambda error: release_large_request_lock())


def _overloaded(what: str) -> Unavailable:
    return Unavailable(
        f"{what}, try again soon", code="overloaded", retry_after_seconds=RETRY_SECONDS
    )
