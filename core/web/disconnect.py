"""Detects that the client of a request has disconnected, without a thread and without polling.

gunicorn keeps the connection of a request in its environ, under `CONNECTION`.

A client that closes its connection and one that closes only its sending side (`shutdown(SHUT_WR)`)
look the same: both send a FIN. The next write tells them apart, because the first client's system
answers it with a reset. So where a program can write something that does not change the response,
it writes before it counts a client as gone.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from wsgiref.types import WSGIEnvironment

import gevent
from gevent.monkey import get_original, is_module_patched

#: The key of the connection in gunicorn's environ of a request.
CONNECTION = "gunicorn.socket"
#: A connection with more data than its request is checked this often.
CHECK_SECONDS = 0.5
#: The wait before a probed client is checked: on most networks its reset has arrived by then.
PROBE_SECONDS = 0.1
#: Changes no response (RFC 9110, section 15.2): clients ignore it, even where none is expected.
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
#: Both directions of the connection are over: closed, reset or broken.
_GONE = select.POLLHUP | select.POLLERR
#: The client sends nothing more, even if there is something left to read.
_HALF_CLOSED = select.POLLRDHUP


class ClientConnection:
    """The connection of one request.

    Args:
        probe: called once, in its own greenlet, when the client has closed its sending side; makes
            the program write something. Without it, such a client counts as gone.

    Attributes:
        is_gone: the client will read no response.
    """

    def __init__(
        self, connection: socket.socket | None, *, probe: Callable[[], None] | None = None
    ) -> None:
        self._connection = connection
        self._probe = probe
        self._has_probed = False
        self.is_gone = False

    @classmethod
    def of_request(
        cls, environ: WSGIEnvironment, *, probe: Callable[[], None] | None = None
    ) -> ClientConnection:
        """Return the connection of a request."""
        return cls(environ.get(CONNECTION), probe=probe)

    @classmethod
    def of_unanswered_request(cls, environ: WSGIEnvironment) -> ClientConnection:
        """Return the connection of a request whose response has not begun.

        A client of HTTP/1.0 that closes its sending side counts as gone: it knows no
        `100 Continue`.
        """
        connection: Any = environ.get(CONNECTION)
        if connection is None or environ.get("SERVER_PROTOCOL") != "HTTP/1.1":
            return cls(connection)
        return cls(connection, probe=lambda: _write(connection, _CONTINUE))

    def check(self) -> bool:
        """Check the connection now; returns `is_gone`."""
        if self._connection is None or self.is_gone:
            return self.is_gone
        state = _state(self._connection)
        self.is_gone = bool(state & _GONE)
        if state & _HALF_CLOSED and not self.is_gone:
            if self._probe is None:
                self.is_gone = True
            elif not self._has_probed:
                self._has_probed = True
                gevent.spawn(self._probe)
        return self.is_gone

    def check_twice(self) -> bool:
        """Check the connection, and once more after a probe; returns `is_gone`."""
        had_probed = self._has_probed
        if not self.check() and self._has_probed and not had_probed:
            gevent.sleep(PROBE_SECONDS)
        return self.check()

    def reset_on_close(self) -> None:
        """End the connection with a reset when it is closed, because the response is not complete.

        For responses that end with their connection, such as those to HTTP/1.0.
        """
        if self._connection is not None:
            linger = struct.pack("ii", 1, 0)
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    @contextmanager
    def write_timeout(self, seconds: float) -> Iterator[None]:
        """Let each write of the block fail if the client does not take it within `seconds`."""
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
        """Call `on_gone`, in its own greenlet, when the client disconnects during the block."""
        if self._connection is None or not is_module_patched("socket"):
            yield
            return
        loop = gevent.get_hub().loop
        watchers = [loop.io(self._connection.fileno(), 1)]

        def check() -> None:
            if self.check():
                for watcher in watchers:
                    watcher.stop()
                gevent.spawn(on_gone)

        def readable() -> None:
            # It stays readable: at its end, or with a next request, where only a timer helps.
            watchers[0].stop()
            watchers.append(loop.timer(PROBE_SECONDS, CHECK_SECONDS))
            watchers[1].start(check)
            check()

        watchers[0].start(readable)
        try:
            yield
        finally:
            for watcher in watchers:
                watcher.stop()
                watcher.close()


def _write(connection: socket.socket, data: bytes) -> None:
    """Write a few bytes without waiting; drop those that cannot be written."""
    with suppress(OSError):
        os.write(connection.fileno(), data)


def _state(connection: socket.socket) -> int:
    """Return the poll events of both directions of a connection."""
    if connection.fileno() < 0:
        return _GONE
    poll = get_original("select", "poll")()  # gevent's own would let others run in between
    poll.register(connection.fileno(), _HALF_CLOSED | _GONE)
    return sum(state for _, state in poll.poll(0))
