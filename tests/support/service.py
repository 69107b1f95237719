"""The service as real processes, for tests that call it over HTTP."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import redis
import requests
from sqlalchemy import Engine, text

from cli.system.ports import free_port
from core.config.settings import Settings
from core.queueing.workers import WorkerRegistry
from core.redis.client import open_redis
from models.database.base import SessionFactory, open_database, sessions
from models.schema import metadata
from tests.support.contract import check_response
from tests.support.factories.rows import add_admin
from tests.support.paths import ROOT
from tests.support.polling import wait_until
from tests.support.preloading.program import program_kind, start_preloaded
from tests.support.processes import (
    CALL_SECONDS,
    CLI,
    STOP_SECONDS,
    bare_environment,
    end,
    kill_with_children,
    responds,
    run,
    start,
)

READY_SECONDS = 90.0
COMMAND_SECONDS = 60.0
#: Tokens a second of each stream of the fixture `slow_service`.
PACE = 25.0
LARGE_TABLE_BYTES = 4 * 1024**2
LARGEST_TABLE = """
    select max(pg_relation_size(oid)) from pg_class
    where relkind = 'r' and relnamespace = 'public'::regnamespace
"""


@dataclass
class Service:
    """An API, workers and perhaps an admin UI that a test started, and how to call them.

    Attributes:
        source: the directory of the programs' code.
        holds_to_document: whether `call` checks each response against the present document; an
            earlier release has another document.
        environments: further environment variables of single programs, by program name.
    """

    settings: Settings
    directory: Path
    source: Path = ROOT
    holds_to_document: bool = True
    api: subprocess.Popen[bytes] | None = None
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    admin_ui: subprocess.Popen[bytes] | None = None
    environments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def started(
        cls,
        settings: Settings,
        directory: Path,
        *,
        workers: int = 1,
        environments: Mapping[str, Mapping[str, str]] | None = None,
        **changes: Any,
    ) -> Iterator[Service]:
        """Run the service with `changes` to the settings; stop all processes after the block."""
        ports = {"api_port": free_port(), "admin_port": free_port()}
        settings = settings.model_copy(update={**ports, **changes})
        service = cls(settings, directory, environments=environments or {})
        service._seed()
        try:
            service.api = service.spawn("api")
            for _ in range(workers):
                service.add_worker()
            service.wait_ready(workers)
            yield service
        finally:
            service.stop()

    @cached_property
    def database(self) -> Engine:
        """Connections to the service's database, for everything that a test reads there."""
        return open_database(self.settings)

    @cached_property
    def sessions(self) -> SessionFactory:
        return sessions(self.database)

    @cached_property
    def redis_client(self) -> redis.Redis:
        return open_redis(self.settings)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.api_port}"

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.settings.admin_port}"

    def spawn(
        self, program: str, *, prefix: Sequence[str] = (), **changes: Any
    ) -> subprocess.Popen[bytes]:
        """Start a program with `changes` to the settings.

        Args:
            prefix: a command that runs the program, with its arguments.
        """
        settings = self.settings.model_copy(update=changes)
        own = self.environments.get(program, {})
        environment = {**bare_environment(), **settings.to_environment(), **own}
        log = self.directory / f"{program}-{time.monotonic_ns()}.log"
        kind = program_kind(program, settings.engine)
        if kind is None or prefix or own or self.source != ROOT:
            command = [*prefix, *CLI, program]
            return start(command, log=log, environment=environment, directory=self.source)
        return start_preloaded(kind, [program], log=log, environment=environment)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `bountycoder` to its end, with the service's settings."""
        return run(
            [*CLI, *arguments],
            environment={**bare_environment(), **self.settings.to_environment()},
            directory=self.source,
            seconds=COMMAND_SECONDS,
        )

    def add_worker(self, **changes: Any) -> subprocess.Popen[bytes]:
        worker = self.spawn("worker", **changes)
        self.workers.append(worker)
        return worker

    def end_worker(
        self, worker: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM
    ) -> int:
        """End one of the workers by a signal and return its exit code."""
        self.workers.remove(worker)
        return end(worker, number)

    def kill_api_process(self) -> None:
        """Kill one of the API's processes; the API starts another."""
        assert self.api is not None
        psutil.Process(self.api.pid).children()[0].kill()

    def start_admin_ui(self) -> None:
        """Start the admin UI beside the API, unless it runs already."""
        if self.admin_ui is None:
            self.admin_ui = self.spawn("admin-ui")
            self.wait_admin_ui()

    def wait_admin_ui(self) -> None:
        wait_until(lambda: responds(f"{self.admin_url}/sign-in"), READY_SECONDS, self.logs)

    def wait_ready(self, workers: int = 1) -> None:
        """Wait until the API responds and this many workers take jobs."""
        wait_until(lambda: self._ready_workers() >= workers, READY_SECONDS, self.logs)
        wait_until(self.responds, READY_SECONDS, self.logs)

    def responds(self) -> bool:
        """Return whether the API responds; it may not listen yet."""
        return responds(f"{self.url}/healthz")

    def stop(self) -> None:
        """Stop all processes.

        Workers drain and remove their heartbeats, so that no later test counts them. The API and
        the admin UI hold no state: they are killed, because draining takes seconds.
        """
        for program in (self.api, self.admin_ui):
            if program is not None:
                kill_with_children(program)
        for worker in self.workers:
            worker.send_signal(signal.SIGTERM)
        for worker in self.workers:
            try:
                worker.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait(STOP_SECONDS)
        if "database" in self.__dict__:
            self.database.dispose()
        if "redis_client" in self.__dict__:
            self.redis_client.close()

    def start_over(self) -> None:
        """Delete all rows and keys except the workers' heartbeats, and seed an admin."""
        empty_tables(self.database)
        for key in self.redis_client.scan_iter(count=1000):
            if not key.startswith(b"worker"):
                self.redis_client.delete(key)
        self._seed()

    def logs(self) -> str:
        return "\n".join(
            f"--- {path.name}\n{path.read_text()}" for path in sorted(self.directory.glob("*.log"))
        )

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """Call the API, and check its response against the published document."""
        response = requests.request(method, self.url + path, timeout=CALL_SECONDS, **options)
        if self.holds_to_document:
            check_response(response, has_body=not options.get("stream", False))
        return response

    def sign_in(self, email: str, password: str) -> dict[str, str]:
        """Return the headers of a signed-in user."""
        response = self.call("POST", "/api/auth/login", json={"email": email, "password": password})
        assert response.status_code == 200, response.text
        return {"Authorization": f"Bearer {response.json()['token']}"}

    def sign_in_admin(self) -> dict[str, str]:
        return self.sign_in(
            self.settings.admin_email, self.settings.admin_password.get_secret_value()
        )

    def make_key(self, **fields: Any) -> dict[str, Any]:
        """Return a new key of the admin, its secret included."""
        body = {"name": "test", "rateLimit": 100_000, **fields}
        response = self.call("POST", "/api/keys", json=body, headers=self.sign_in_admin())
        assert response.status_code == 201, response.text
        return dict(response.json())

    def _seed(self) -> None:
        with self.sessions.begin() as session:
            password = self.settings.admin_password.get_secret_value()
            add_admin(session, email=self.settings.admin_email, password=password)

    def _ready_workers(self) -> int:
        """Return how many workers report in their heartbeat that they take jobs."""
        return len(WorkerRegistry(self.redis_client).ready())


def empty_tables(engine: Engine) -> None:
    """Delete every row of a database.

    Truncating takes a hundred times longer than deleting a few rows, even for an empty table.
    So only large tables are truncated.
    """
    names = [f'"{table.name}"' for table in metadata.sorted_tables]
    with engine.begin() as connection:
        largest = connection.scalar(text(LARGEST_TABLE))
        if largest > LARGE_TABLE_BYTES:
            connection.execute(text(f"truncate {', '.join(names)}"))
        else:
            connection.execute(text("; ".join(f"delete from {name}" for name in reversed(names))))
