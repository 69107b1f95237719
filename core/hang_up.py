"""Notices that the client of a request went away, without a thread and without polling.

A program hands in the connection: gunicorn keeps it in a request's `CONNECTION`.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gevent
from gevent.monkey import get_original, is_module_patched

#: Where gunicorn's environ of a request has its connection.
CONNECTION = "gunicorn.socket"
#: A connection on which more has arrived than the request is looked at this often.
LOOK_SECONDS = 0.5
#: Readable for the system's poll when the other side has closed, whatever else is to be read.
_ENDED = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class HangUp:
    """The connection of one request.

    Attributes:
        is_gone: the client has closed its side: nobody will read an answer.
    """

    def __init__(self, connection: socket.socket | None) -> None:
        self._connection = connection
        self.is_gone = False

    def look(self) -> bool:
        """Look at the connection now; returns `is_gone`."""
        if self._connection is not None and not self.is_gone:
            self.is_gone = _has_ended(self._connection)
        return self.is_gone

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
            watchers.append(loop.timer(LOOK_SECONDS, LOOK_SECONDS))
            watchers[1].start(look)
            look()

        watchers[0].start(readable)
        try:
            yield
        finally:
            for one in watchers:
                one.stop()
                one.close()


def _has_ended(connection: socket.socket) -> bool:
    if connection.fileno() < 0:
        return True
    poll = get_original("select", "poll")()  # gevent's own would let others run in between
    poll.register(connection.fileno(), _ENDED)
    return bool(poll.poll(0))
