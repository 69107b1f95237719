"""Serves a WSGI application with gunicorn: processes of greenlets, so that a waiting request costs
no thread. Configured by what is handed in, and by nothing else.
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
from core.ids import Prefix, new_id, show_id
from core.web.listener import BACKLOG, Listener
from core.web.open_files import connections_that_fit

_log = logging.getLogger(__name__)

_TOO_MANY_HEADERS = "431 Request Header Fields Too Large"
#: Requests that one process holds open at once; most of them only wait.
CONNECTIONS_PER_PROCESS = 2000
#: A process whose greenlets have not run for this long is replaced.
STALL_SECONDS = 30
KEEPALIVE_SECONDS = 75
#: What the head of a request has to come whole: from its first byte on, and from the connection on
#: where it is the first.
HEAD_SECONDS = 10.0
#: How long the rest of a body is thrown away before the connection is closed, and in what pieces.
DISCARD_SECONDS, DISCARD_BYTES = 10.0, 256 * 1024
#: What requests that are let go have to answer before the process ends.
END_WAITS_SECONDS = 4.0
#: A connection that waits this long for its next request is idle when the process stops.
IDLE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class InternalPort:
    """A port of a program that another application answers on, in each of its processes."""

    host: str
    port: int
    load: Callable[[], WSGIApplication]


@dataclass(frozen=True, slots=True)
class WebProgram:
    """A program that answers HTTP.

    Attributes:
        name: shown in the list of processes.
        load: makes the application, once in each process.
        grace_seconds: what a stopping process has to finish its requests.
        let_go: called shortly before that is over: requests that wait for something shall answer.
        internal: a port that the public does not reach.
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
        except BountyError as error:  # gunicorn ends the program, and prints this alone
            raise AppImportError(f"bountycoder: {error}") from error
        # What a process begins with lives as long as it does: a full collection that goes through
        # all of it stops every request for a tenth of a second, now and then.
        gc.collect()
        gc.freeze()
        if self._program.internal is None:
            return public
        return _by_port(public, self._program.internal)


# Where gunicorn's worker looks for it.
ggevent.StreamServer = Listener


class _Worker(GeventWorker):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's greenlet worker, which closes idle connections when it stops, and repeats nothing
    of a request that is no HTTP: gunicorn would write its text, secrets and all, into the log.

    Its own waits for them as for running requests: one client that keeps a connection open, as
    every load balancer does, would stretch each stop to the whole grace period.
    """

    program: WebProgram

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._let_go_at: float | None = None
        self._connections: dict[gevent.Greenlet, Any] = {}
        self._idle: dict[gevent.Greenlet, tuple[gevent.Timeout, float]] = {}

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Called with each connection, in a greenlet of its own."""
        greenlet = gevent.getcurrent()
        connection = _Connection.of(client)
        self._connections[greenlet] = connection
        try:
            super().handle(listener, connection, addr)
        finally:
            del self._connections[greenlet]

    @contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Stands around each wait for a connection's next request."""
        greenlet = gevent.getcurrent()
        seconds = self._connections[greenlet].await_head(self.cfg.keepalive)
        with gevent.Timeout(seconds, False) as timeout:
            self._idle[greenlet] = (timeout, time.monotonic())
            try:
                yield
            finally:
                del self._idle[greenlet]

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Called with each request; what the application left of its body is thrown away.

        gunicorn's own way copies a megabyte for each kilobyte of it, and lets nothing else run.
        """
        super().handle_request(listener_name, req, sock, addr)
        if req.should_close() or req.body.failed:
            return
        is_over = False
        with gevent.Timeout(DISCARD_SECONDS, False):
            while req.body.read(DISCARD_BYTES):
                gevent.sleep(0)  # a fast client's bytes are there without waiting
            is_over = True
        if not is_over:
            req.force_close()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Called with what could not be parsed, and with what the application did not catch."""
        if not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        _log.warning("a request is no HTTP: %s", type(exc).__name__)
        status = {LimitRequestLine: "414 URI Too Long", LimitRequestHeaders: _TOO_MANY_HEADERS}
        with suppress(OSError):
            client.sendall(_malformed(status.get(type(exc), "400 Bad Request")))

    def notify(self) -> None:
        """Called every second, also while the process stops."""
        super().notify()
        now = time.monotonic()
        gevent.get_hub().loop.run_callback(self._close_slow_heads, now - HEAD_SECONDS)
        if not self.alive:
            self._let_go(now)
            gevent.get_hub().loop.run_callback(self._close_idle, now - IDLE_SECONDS)

    def _close_slow_heads(self, since: float) -> None:
        """End the waits for the rest of a head that began before `since`."""
        for greenlet, (timeout, _) in list(self._idle.items()):
            if self._connections[greenlet].head_began_at < since:
                greenlet.throw(timeout)

    def _close_idle(self, since: float) -> None:
        """End the waits for a next request that began before `since`.

        It runs in the hub, so that none of them ends between the look at it and its end; and a
        request that came but was not read yet is answered.
        """
        for greenlet, (timeout, began) in list(self._idle.items()):
            if began < since and not _has_sent(self._connections[greenlet]):
                greenlet.throw(timeout)

    def _let_go(self, now: float) -> None:
        if self._let_go_at is None:
            self._let_go_at = now + max(0.0, self.program.grace_seconds - END_WAITS_SECONDS)
        if now >= self._let_go_at:
            self.program.end_waits()


class _Connection(gevent.socket.socket):  # type: ignore[misc]  # gevent has no annotations
    """A connection that knows when the head that it waits for began to come.

    Attributes:
        head_began_at: infinite while nothing of it has come.
    """

    head_began_at = float("inf")
    _had_one = False

    @classmethod
    def of(cls, client: Any) -> _Connection:
        """Take over a connection that was accepted."""
        return cls(client.family, client.type, client.proto, fileno=client.detach())

    def await_head(self, keepalive: float) -> float:
        """Note that a head is waited for, and return for how long."""
        seconds = keepalive if self._had_one else HEAD_SECONDS
        self._had_one, self.head_began_at = True, float("inf")
        return seconds

    def recv(self, *args: Any) -> bytes:
        data: bytes = super().recv(*args)
        if data and self.head_began_at == float("inf"):
            self.head_began_at = time.monotonic()
        return data


def _has_sent(connection: Any) -> bool:
    """Say whether there is something to read."""
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
    """Return what answers by the port that a connection came to: no header can choose it."""
    port, own = str(internal.port), internal.load()

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # Of the socket that accepted the connection.
        app = own if environ["SERVER_PORT"] == port else public
        return app(environ, start_response)

    return answer


def _malformed(status: str) -> bytes:
    """Return an answer in the contract's shape to what never became a request."""
    error = InvalidRequest("the request is malformed")
    body = json.dumps(error.body(show_id(Prefix.REQUEST, new_id()))).encode()
    head = (
        f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/json\r\n"
        f"cache-control: no-store\r\nx-content-type-options: nosniff\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
