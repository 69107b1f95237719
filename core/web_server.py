"""Serves a WSGI application with gunicorn: processes of greenlets, so that a waiting request costs
no thread. Configured by what is handed in, and by nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gevent
from gunicorn.app.base import BaseApplication
from gunicorn.workers.ggevent import GeventWorker

#: Requests that one process holds open at once; most of them only wait.
CONNECTIONS_PER_PROCESS = 2000
BACKLOG = 2048
#: A process whose greenlets have not run for this long is replaced.
STALL_SECONDS = 30
KEEPALIVE_SECONDS = 75
#: A connection that waits this long for its next request is idle when the process stops.
IDLE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class WebProgram:
    """A program that answers HTTP.

    Attributes:
        name: shown in the list of processes.
        load: makes the application, once in each process.
        grace_seconds: what a stopping process has to finish its requests.
    """

    name: str
    host: str
    port: int
    processes: int
    grace_seconds: float
    load: Callable[[], Any]


class WebServer(BaseApplication):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn for one `WebProgram`; `run()` serves until SIGTERM."""

    def __init__(self, program: WebProgram) -> None:
        self._program = program
        super().__init__()

    def load_config(self) -> None:
        program = self._program
        options: dict[str, Any] = {
            "bind": f"{program.host}:{program.port}",
            "workers": program.processes,
            "worker_class": _Worker,
            "worker_connections": CONNECTIONS_PER_PROCESS,
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

    def load(self) -> Any:
        return self._program.load()


class _Worker(GeventWorker):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's greenlet worker, which closes idle connections when it stops.

    Its own waits for them as for running requests: one client that keeps a connection open, as
    every load balancer does, would stretch each stop to the whole grace period.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._idle: dict[gevent.Greenlet, tuple[gevent.Timeout, float]] = {}

    @contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Stands around each wait for a connection's next request."""
        greenlet = gevent.getcurrent()
        with gevent.Timeout(self.cfg.keepalive, False) as timeout:
            self._idle[greenlet] = (timeout, time.monotonic())
            try:
                yield
            finally:
                del self._idle[greenlet]

    def notify(self) -> None:
        """Called every second, also while the process stops."""
        super().notify()
        if not self.alive:
            now = time.monotonic()
            for greenlet, (timeout, since) in list(self._idle.items()):
                if now - since > IDLE_SECONDS:
                    gevent.kill(greenlet, timeout, block=False)
