"""Notices that the client of a request went away, without a thread and without polling.

A program hands in the connection: gunicorn keeps it in a request's `CONNECTION`.

A client that closes its connection and one that only closes its sending side (`shutdown(SHUT_WR)`)
look the same: both send a FIN. The next write tells them apart: the system of the former answers it
with a reset. So where a program can write something that changes no answer, it asks before it takes
a client for gone.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import gevent
from gevent.monkey import get_original, is_module_patched

#: Where gunicorn's environ of a request has its connection.
CONNECTION = "gunicorn.socket"
#: A connection on which more has arrived than the request is looked at this often.
LOOK_SECONDS = 0.5
#: A client that was asked is looked at after this long: on most networks its reset has come.
ANSWER_SECONDS = 0.1
#: The connection is over in both directions: closed, reset or broken.
_GONE = select.POLLHUP | select.POLLERR
#: The client sends nothing more, whatever else is to be read.
_HALF_CLOSED = select.POLLRDHUP


class HangUp:
    """The connection of one request.

    Args:
        ask: called once, in a greenlet of its own, when the client has closed its sending side:
            lets something be written. Without it, such a client is taken for gone.

    Attributes:
        is_gone: nobody will read an answer.
    """

    def __init__(
        self, connection: socket.socket | None, *, ask: Callable[[], None] | None = None
    ) -> None:
        self._connection = connection
        self._ask = ask
        self._has_asked = False
        self.is_gone = False

    def look(self) -> bool:
        """Look at the connection now; returns `is_gone`."""
        if self._connection is None or self.is_gone:
            return self.is_gone
        state = _state(self._connection)
        self.is_gone = bool(state & _GONE)
        if state & _HALF_CLOSED and not self.is_gone:
            if self._ask is None:
                self.is_gone = True
            elif not self._has_asked:
                self._has_asked = True
                gevent.spawn(self._ask)
        return self.is_gone

    def look_twice(self) -> bool:
        """Look, and wait for the answer of a client that was asked; returns `is_gone`."""
        had_asked = self._has_asked
        if not self.look() and self._has_asked and not had_asked:
            gevent.sleep(ANSWER_SECONDS)
        return self.look()

    def break_off(self) -> None:
        """Let the connection end with a reset when it is closed: what was sent is not whole.

        For answers that end with their connection, as those to HTTP/1.0 do.
        """
        if self._connection is not None:
            linger = struct.pack("ii", 1, 0)
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    @contextmanager
    def impatient(self, seconds: float) -> Iterator[None]:
        """Let each write fail, in this block, that the client does not take within `seconds`."""
        if self._connection is None:
            yield
            return
        before = self._connection.gettimeout()
        self._connection.settimeout(seconds)
        try:
            yield
        finally:
            self._connection.settimeout(before)

    @contextmanager
    def watched(self, on_gone: Callable[[], None]) -> Iterator[None]:
        """Call `on_gone`, in a greenlet of its own, when the client goes away in this block."""
        if self._connection is None or not is_module_patched("socket"):
            yield
            return
        loop = gevent.get_hub().loop
        watchers = [loop.io(self._connection.fileno(), 1)]

        def look() -> None:
            if self.look():
                for one in watchers:
                    one.stop()
                gevent.spawn(on_gone)

        def readable() -> None:
            # It stays readable: by its end, or by a next request, after which only looking helps.
            watchers[0].stop()
            watchers.append(loop.timer(ANSWER_SECONDS, LOOK_SECONDS))
            watchers[1].start(look)
            look()

        watchers[0].start(readable)
        try:
            yield
        finally:
            for one in watchers:
                one.stop()
                one.close()


def say(connection: socket.socket, data: bytes) -> None:
    """Write a few bytes without waiting; what cannot be written is left out."""
    with suppress(OSError):
        os.write(connection.fileno(), data)


def _state(connection: socket.socket) -> int:
    """Return what the system's poll says of the connection's ends."""
    if connection.fileno() < 0:
        return _GONE
    poll = get_original("select", "poll")()  # gevent's own would let others run in between
    poll.register(connection.fileno(), _HALF_CLOSED | _GONE)
    return sum(state for _, state in poll.poll(0))
