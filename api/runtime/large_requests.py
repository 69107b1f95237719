"""Lets one large request at a time be read and counted in a process, each user in turn.

A body of megabytes takes tens of milliseconds to parse and check, during which no other greenlet of
the process runs. So large requests wait for each other, outside the entrance, and after each the
process works on other requests for a few times as long. Small requests never wait here. Users take
turns, so that the twelfth large request of one user is behind the first of another.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from uuid import UUID

from flask import Flask, g

from core.errors import Unavailable

#: Bodies with fewer bytes take as little time as others do.
LARGE_BYTES = 64 * 1024
#: How many times as long as a large request took the next one waits.
REST = 3.0
MAX_REST_SECONDS = 0.5
#: To receive a body takes time too, and is done before its request has its turn.
SECONDS_PER_BYTE = 2e-8
#: Large requests that wait in one process, of all users and of one.
MOST_WAITING = 64
MOST_OF_A_USER = 16
MAX_WAIT_SECONDS = 10.0
RETRY_SECONDS = 3.0


class LargeRequests:
    """The turns of one process."""

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
        self._is_taken = False
        self._rest_until = 0.0

    def take_turn(self, user_id: UUID, size: int) -> Callable[[], None]:
        """Wait for a turn; returns what ends it.

        Args:
            size: bytes of the body.

        Raises:
            Unavailable: too many wait already, or the turn did not come in time.
        """
        self._wait(user_id)
        self._sleep(max(0.0, self._rest_until - self._clock()))
        began = self._clock()

        def end() -> None:
            seconds = self._clock() - began + size * SECONDS_PER_BYTE
            self._rest_until = self._clock() + min(MAX_REST_SECONDS, REST * seconds)
            with self._lock:
                self._pass_on()

        return end

    def _wait(self, user_id: UUID) -> None:
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return
            mine = self._waiting.get(user_id, deque())
            if len(mine) >= MOST_OF_A_USER or self._count() >= MOST_WAITING:
                raise _overloaded("too many large requests wait")
            turn = threading.Event()
            mine.append(turn)
            self._waiting[user_id] = mine
        if turn.wait(self._max_wait_seconds):
            return
        with self._lock:
            if turn.is_set():  # it came at the last moment
                return
            mine.remove(turn)
            if not mine:
                self._waiting.pop(user_id, None)
        raise _overloaded("large requests wait too long")

    def _count(self) -> int:
        return sum(map(len, self._waiting.values()))

    def _pass_on(self) -> None:
        if not self._waiting:
            self._is_taken = False
            return
        user_id, waiting = self._waiting.popitem(last=False)
        waiting.popleft().set()
        if waiting:
            self._waiting[user_id] = waiting  # behind all other users


def hold_turn(requests: LargeRequests, user_id: UUID, size: int) -> None:
    """Wait for the turn of the present request, and hold it until `leave_turn` or its end.

    Raises:
        Unavailable: too many wait already, or the turn did not come in time.
    """
    g.leave_turn = requests.take_turn(user_id, size)


def leave_turn() -> None:
    """End the turn of the present request, if it holds one."""
    end = g.pop("leave_turn", None)
    if end is not None:
        end()


def register_large_requests(app: Flask) -> None:
    """Let no request keep its turn."""
    app.teardown_request(lambda error: leave_turn())


def _overloaded(what: str) -> Unavailable:
    return Unavailable(
        f"{what}, try again soon", code="overloaded", retry_after_seconds=RETRY_SECONDS
    )
