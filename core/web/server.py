"""Serves a WSGI application with gunicorn, in processes of greenlets.

A waiting request costs no thread. The server reads no configuration of its own.
"""

from __future__ import annotations

import fcntl
import gc
import json
import logging
import termios
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import gevent
import gevent.socket
from gunicorn.app.base import BaseApplication
from gunicorn.errors import AppImportError
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.workers import ggevent
from gunicorn.workers.ggevent import GeventWorker

from core.errors import BountyError, InvalidRequest
from core.ids import Prefix, format_id, new_id
from core.web.listener import BACKLOG, Listener
from core.web.open_files import connections_that_fit

_log = logging.getLogger(__name__)

_TOO_MANY_HEADERS = "431 Request Header Fields Too Large"
#: Concurrent requests of one process; most of them only wait.
CONNECTIONS_PER_PROCESS = 2000
#: A process whose greenlets have not run for this long is restarted.
STALL_SECONDS = 30
KEEPALIVE_SECONDS = 75
#: The timeout of a request's head, counted from its first byte; for the first request, from the
#: connection.
HEAD_SECONDS = 10.0
#: How long the rest of a body is discarded before the connection is closed, and in which pieces.
DISCARD_SECONDS, DISCARD_BYTES = 10.0, 256 * 1024
#: The time that waiting requests have to respond before the process ends.
END_WAITS_SECONDS = 4.0
#: A connection without a request for this long counts as idle when the process stops.
IDLE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class InternalPort:
    """A second port of a program, served by another application in each process."""

    host: str
    port: int
    load: Callable[[], WSGIApplication]


@dataclass(frozen=True, slots=True)
class WebProgram:
    """A program that serves HTTP.

    Attributes:
        name: the name in the list of processes.
        load: makes the application; called once in each process.
        grace_seconds: the time that a stopping process has to finish its requests.
        end_waits: called shortly before the end of that time; makes waiting requests respond.
        internal: a port that is not public.
    """

    name: str
    host: str
    port: int
    processes: int
    grace_seconds: float
    load: Callable[[], WSGIApplication]
    end_waits: Callable[[], None] = lambda: None
    internal: InternalPort | None = None


class WebServer(BaseApplication):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn for one `WebProgram`; `run()` serves until SIGTERM."""

    def __init__(self, program: WebProgram) -> None:
        self._program = program
        super().__init__()

    def load_config(self) -> None:
        program = self._program
        options: dict[str, Any] = {
            "bind": _addresses(program),
            "workers": program.processes,
            "worker_class": type("_Worker", (_Worker,), {"program": program}),
            "worker_connections": connections_that_fit(CONNECTIONS_PER_PROCESS),
            "backlog": BACKLOG,
            "timeout": STALL_SECONDS,
            "graceful_timeout": round(program.grace_seconds),
            "keepalive": KEEPALIVE_SECONDS,
            "loglevel": "warning",
            "proc_name": program.name,
            # Its default place is one for all instances of a user.
            "control_socket_disable": True,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> WSGIApplication:
        try:
            public = self._program.load()
        except BountyError as error:  # gunicorn ends the program and prints only this
            raise AppImportError(f"bountycoder: {error}") from error
        # The initial objects live as long as the process. A full collection over all of them would
        # sometimes stop every request for a tenth of a second.
        gc.collect()
        gc.freeze()
        if self._program.internal is None:
            return public
        return _by_port(public, self._program.internal)


# gunicorn's worker uses this name.
ggevent.StreamServer = Listener


class _Worker(GeventWorker):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's greenlet worker with shorter stops and no request text in the log.

    gunicorn logs the text of a malformed request, including secrets. It also waits for idle
    connections as for running requests: one client with an open connection, such as a load
    balancer, would extend each stop to the whole grace period.
    """

    program: WebProgram

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._end_waits_at: float | None = None
        self._connections: dict[gevent.Greenlet, Any] = {}
        self._idle: dict[gevent.Greenlet, tuple[gevent.Timeout, float]] = {}

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Handle one connection; runs in its own greenlet."""
        greenlet = gevent.getcurrent()
        connection = _Connection.of(client)
        self._connections[greenlet] = connection
        try:
            # gunicorn asks the listener only for its address. A stopping process has closed it.
            super().handle(connection, connection, addr)
        finally:
            del self._connections[greenlet]

    @contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Limit the wait for the next request of a connection."""
        greenlet = gevent.getcurrent()
        seconds = self._connections[greenlet].await_head(self.cfg.keepalive)
        with gevent.Timeout(seconds, False) as timeout:
            self._idle[greenlet] = (timeout, time.monotonic())
            try:
                yield
            finally:
                del self._idle[greenlet]

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Handle one request, and discard the unread rest of its body.

        gunicorn's own code copies a megabyte for each kilobyte of the body, and does not yield.
        """
        super().handle_request(listener_name, req, sock, addr)
        if req.should_close() or req.body.failed:
            return
        is_over = False
        with gevent.Timeout(DISCARD_SECONDS, False):
            while req.body.read(DISCARD_BYTES):
                gevent.sleep(0)  # the bytes of a fast client arrive without a wait
            is_over = True
        if not is_over:
            req.force_close()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Handle a parse error, or an error that the application did not catch."""
        if not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        _log.warning("a request is malformed: %s", type(exc).__name__)
        status = {LimitRequestLine: "414 URI Too Long", LimitRequestHeaders: _TOO_MANY_HEADERS}
        with suppress(OSError):
            client.sendall(_malformed(status.get(type(exc), "400 Bad Request")))

    def notify(self) -> None:
        """Run the regular checks; gunicorn calls this every second, also while it stops."""
        super().notify()
        now = time.monotonic()
        gevent.get_hub().loop.run_callback(self._close_slow_heads, now - HEAD_SECONDS)
        if not self.alive:
            self._check_end_of_waits(now)
            gevent.get_hub().loop.run_callback(self._close_idle, now - IDLE_SECONDS)

    def _close_slow_heads(self, since: float) -> None:
        """End the wait for each request whose head began before `since`."""
        for greenlet, (timeout, _) in list(self._idle.items()):
            if self._connections[greenlet].head_began_at < since:
                greenlet.throw(timeout)

    def _close_idle(self, since: float) -> None:
        """End each wait for a next request that began before `since`.

        Runs in the hub, so that no wait ends between the check and the throw. A request that has
        arrived but was not read yet is still handled.
        """
        for greenlet, (timeout, began) in list(self._idle.items()):
            if began < since and not _has_sent(self._connections[greenlet]):
                greenlet.throw(timeout)

    def _check_end_of_waits(self, now: float) -> None:
        if self._end_waits_at is None:
            self._end_waits_at = now + max(0.0, self.program.grace_seconds - END_WAITS_SECONDS)
        if now >= self._end_waits_at:
            self.program.end_waits()


class _Connection(gevent.socket.socket):  # type: ignore[misc]  # gevent has no annotations
    """A connection that records when the head of its next request began.

    Attributes:
        head_began_at: infinite until the first byte has arrived.
    """

    head_began_at = float("inf")
    _had_one = False

    @classmethod
    def of(cls, client: Any) -> _Connection:
        """Take over an accepted connection."""
        return cls(client.family, client.type, client.proto, fileno=client.detach())

    def await_head(self, keepalive: float) -> float:
        """Begin to wait for a head; return the timeout in seconds."""
        seconds = keepalive if self._had_one else HEAD_SECONDS
        self._had_one, self.head_began_at = True, float("inf")
        return seconds

    def recv(self, *args: Any) -> bytes:
        data: bytes = super().recv(*args)
        if data and self.head_began_at == float("inf"):
            self.head_began_at = time.monotonic()
        return data


def _has_sent(connection: Any) -> bool:
    """Return whether there is data to read."""
    waiting = array("i", [0])
    try:
        fcntl.ioctl(connection.fileno(), termios.FIONREAD, waiting)
    except OSError:
        return False
    return waiting[0] > 0


def _addresses(program: WebProgram) -> list[str]:
    public = f"{program.host}:{program.port}"
    own = program.internal
    return [public] if own is None else [public, f"{own.host}:{own.port}"]


def _by_port(public: WSGIApplication, internal: InternalPort) -> WSGIApplication:
    """Return an application that chooses by the port of the connection, not by a header."""
    port, own = str(internal.port), internal.load()

    def dispatch(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # The port of the socket that accepted the connection.
        app = own if environ["SERVER_PORT"] == port else public
        return app(environ, start_response)

    return dispatch


def _malformed(status: str) -> bytes:
    """Return an error response in the API's format to a malformed request."""
    error = InvalidRequest("the request is malformed")
    body = json.dumps(error.body(format_id(Prefix.REQUEST, new_id()))).encode()
    head = (
        f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/json\r\n"
        f"cache-control: no-store\r\nx-content-type-options: nosniff\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
