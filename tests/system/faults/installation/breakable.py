"""An installation with breakable parts: two workers, two processes of the API, servers, links."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import redis
import requests

from core.config.settings import DEFAULT_ADMIN_EMAIL, DEFAULT_ADMIN_PASSWORD, Settings
from core.queueing.workers import WorkerRegistry
from core.redis.client import open_redis
from models.database.base import SessionFactory, open_database, sessions
from tests.bench.servers import MODEL
from tests.support.cli.installation import Installation
from tests.support.paths import ROOT
from tests.support.polling import wait_until
from tests.system.faults.installation.clock import WallClocks
from tests.system.faults.installation.engine import StepFault
from tests.system.faults.installation.program import ORDERS, PROGRAM, WORKERS
from tests.system.faults.installation.servers import Servers, send_signal

WORKER_COUNT = 2
READY_SECONDS = 90.0
STOP_SECONDS = 30.0
CALL_SECONDS = 5.0
#: A busy worker writes its stacks within this time.
STACKS_SECONDS = 1.0
#: Short times, so that the service notices faults soon.
ENVIRONMENT = {
    "ENGINE": "echo",
    # The completion is the prompt itself.
    "PROMPT_MODE": "raw",
    "ECHO_TOKENS_PER_SECOND": "25",
    "LEASE_SECONDS": "3",
    "ENGINE_STALL_SECONDS": "1.5",
    "DRAIN_SECONDS": "2",
    "SYNC_WAIT_SECONDS": "8",
    "DATABASE_TIMEOUT_SECONDS": "2",
    "DATABASE_POOL_SIZE": "4",
    "API_PROCESSES": "2",
    "MAX_ATTEMPTS": "3",
    "DEFAULT_RATE_LIMIT": "1000000",
    "POLL_RATE_LIMIT": "1000000",
    "WRITE_RATE_LIMIT": "1000000",
    "MAX_WAITS_PER_USER": "1000000",
    "SECRET_KEY": "a secret of the faults, longer than 32 characters",
}


class BreakableInstallation:
    """All parts of a service, which break one by one and are mended together.

    Attributes:
        up: the launcher, `bountycoder up`.
        orders: a directory of faults that the engines read, see `BreakableEngine`.
    """

    def __init__(self, directory: Path, *, changes: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.clocks = WallClocks(directory)
        self.servers = Servers(directory)
        self.orders = directory / "orders"
        self.orders.mkdir()
        options = ("--workers", str(WORKER_COUNT))
        self.up = Installation(directory / "data", options, {}, PROGRAM)
        self._changes = changes or {}

    @classmethod
    @contextmanager
    def started(cls, *, changes: dict[str, str] | None = None) -> Iterator[BreakableInstallation]:
        """Run an installation with `changes` to its environment until the block ends."""
        with (
            tempfile.TemporaryDirectory(prefix="bountycoder-faults-") as name,
            ExitStack() as stack,
        ):
            installation = cls(Path(name), changes=changes)
            stack.callback(installation.servers.disk.unmount)
            stack.callback(installation.stop)
            installation._start()
            yield installation

    def _start(self) -> None:
        self.servers.start()
        self._database = open_database(self.settings)
        self.sessions: SessionFactory = sessions(self._database)
        self.redis: redis.Redis = open_redis(self.settings)
        self.launch()
        self._admin = self._sign_in()

    @property
    def settings(self) -> Settings:
        """Settings that reach the servers without the links."""
        servers = {
            "DATABASE_URL": self.servers.postgres.url,
            "REDIS_URL": self.servers.valkey.url,
        }
        return Settings.from_environment(
            {"MODEL_PATH": str(MODEL), **servers, **ENVIRONMENT, **self._changes}
        )

    @property
    def url(self) -> str:
        return self.up.url

    def stop(self) -> None:
        """End all processes, even frozen ones."""
        running = [*self.pids().values(), *self.api_processes()]
        if self.up.process is not None:
            self.up.process.kill()
            self.up.process.wait(STOP_SECONDS)
        for pid in running:  # the guardian does so too, unless a fault froze it
            send_signal(pid, signal.SIGKILL)
        self._database.dispose()
        self.redis.close()
        self.servers.stop()

    def launch(self) -> None:
        """Start the launcher and wait until all parts serve."""
        self.up.environment = self._environment()
        self.up.spawn()
        wait_until(self.is_whole, READY_SECONDS, self.explain)

    def _environment(self) -> dict[str, str]:
        workers = self.servers.environment("worker")
        return {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "MODEL_PATH": str(MODEL),
            ORDERS: str(self.orders),
            **ENVIRONMENT,
            **self._changes,
            **self.clocks.environment,
            **self.servers.environment("api"),
            **{WORKERS + name: url for name, url in workers.items()},
        }

    def order(self, pid: int, fault: StepFault) -> Path:
        """Order the fault of a worker's next step; return the file that vanishes as it happens."""
        order = self.orders / str(pid)
        draft = order.with_suffix(".draft")
        draft.write_text(fault)
        draft.rename(order)  # at once: the engine must not read a part of it
        return order

    def pids(self) -> dict[str, int]:
        """Return the processes that the launcher supervises, by name."""
        try:
            return dict(self.up.run_file()["pids"])
        except (OSError, ValueError, KeyError):
            return {}

    def workers(self) -> list[int]:
        pids = self.pids()
        found = [pids.get(f"worker-{number}") for number in range(1, WORKER_COUNT + 1)]
        return [pid for pid in found if pid is not None and psutil.pid_exists(pid)]

    def api_processes(self) -> list[int]:
        """Return the API's processes, the master of gunicorn first."""
        master = self.pids().get("api")
        if master is None:
            return []
        with suppress(psutil.NoSuchProcess):
            return [master, *(child.pid for child in psutil.Process(master).children())]
        return []

    def api_processes_by_name(self) -> dict[str, int]:
        processes = self.api_processes()
        names = ["api", *(f"api-{number}" for number in range(len(processes)))]
        return dict(zip(names, processes, strict=False))

    def is_whole(self) -> bool:
        """Return whether every part serves: the API, both workers, PostgreSQL and Valkey."""
        try:
            response = requests.get(f"{self.url}/readyz", timeout=CALL_SECONDS)
            own = {str(pid) for pid in self.workers()}
            workers = WorkerRegistry(self.redis).ready()
        except (requests.RequestException, redis.RedisError):
            return False
        ready = {status.worker_id.rsplit("-", 2)[1] for status in workers}
        return response.status_code == 200 and len(own) == WORKER_COUNT and own <= ready

    def mend(self) -> None:
        """End all faults and wait until all parts serve."""
        self.servers.mend()
        self.clocks.reset()
        self._mend_processes()
        self._launch_if_ended()
        deadline = time.monotonic() + READY_SECONDS
        while not self.is_whole():
            assert time.monotonic() < deadline, f"not whole again\n{self.explain()}"
            self._launch_if_ended()
            time.sleep(0.05)

    def _launch_if_ended(self) -> None:
        """Replace a launcher that has ended, as an operator's service manager does."""
        assert self.up.process is not None
        if self.up.process.poll() is not None:
            self.launch()

    def _mend_processes(self) -> None:
        """Withdraw the orders to engines and continue frozen processes."""
        for order in self.orders.iterdir():
            order.unlink(missing_ok=True)
        for pid in (*self.pids().values(), *self.api_processes()):
            send_signal(pid, signal.SIGCONT)

    def _sign_in(self) -> dict[str, str]:
        body = {"email": DEFAULT_ADMIN_EMAIL, "password": DEFAULT_ADMIN_PASSWORD}
        response = requests.post(f"{self.url}/api/auth/login", json=body, timeout=CALL_SECONDS)
        assert response.status_code == 200, response.text
        return {"Authorization": f"Bearer {response.json()['token']}"}

    def make_key(self, **fields: Any) -> dict[str, Any]:
        """Return a new key of the admin, its secret included."""
        body = {"name": "faults", "rateLimit": 1_000_000, **fields}
        response = requests.post(
            f"{self.url}/api/keys", json=body, headers=self._admin, timeout=CALL_SECONDS
        )
        assert response.status_code == 201, response.text
        return dict(response.json())

    def explain(self) -> str:
        """Return the end of every log, with the stacks of the workers' threads."""
        for pid in self.workers():
            send_signal(pid, signal.SIGUSR1)
        time.sleep(STACKS_SECONDS)
        files = [
            *sorted(self.directory.glob("data-*.out")),
            *sorted(self.directory.glob("data/logs/*")),
            *sorted(self.servers.logs.glob("*.log*")),
        ]
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-20_000:]}" for path in files
        )
