"""A whole instance that may be broken: `bountycoder up` with two workers and two processes of the
API, and its servers behind links of ours.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import psutil
import redis
import requests

from cli.servers.postgres import SERVER_SETTINGS, Postgres
from cli.servers.valkey import Valkey
from cli.system.ports import free_port
from core.config.settings import DEFAULT_ADMIN_EMAIL, DEFAULT_ADMIN_PASSWORD, Settings
from core.queueing.workers import WorkerRegistry
from core.redis.client import open_redis
from migrations.run import upgrade
from models.database.base import SessionFactory, open_database, sessions
from tests.bench.servers import MODEL
from tests.support.paths import ROOT
from tests.support.polling import wait_until
from tests.system.faults.clock import Clock
from tests.system.faults.link import Link, LinkState, Network
from tests.system.faults.program import ORDERS, PROGRAM, WORKERS

WORKER_COUNT = 2
READY_SECONDS = 90.0
STOP_SECONDS = 30.0
CALL_SECONDS = 5.0
#: What the database's disk holds: room for its log and a few runs.
DISK_BYTES = 768 * 1024**2
#: Short times, so that what takes its time to be noticed takes little.
ENVIRONMENT = {
    "ENGINE": "echo",
    # The answer is the prompt itself.
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
POSTGRES = {"max_wal_size": "128MB", "min_wal_size": "80MB", "max_connections": "120"}


class Instance:
    """Everything, by parts that can be broken one by one, and mended together."""

    def __init__(self, directory: Path, *, changes: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.clock = Clock(directory)
        self.disk = directory / "disk"
        self.disk.mkdir()
        self.disk_is_small = _mount(self.disk)
        self._ballast = self.disk / "ballast"
        self.logs = directory / "servers"
        self.logs.mkdir()
        self.postgres = Postgres(self.disk / "postgres", log_dir=self.logs, is_durable=False)
        self.valkey = Valkey(directory / "valkey", log_dir=self.logs)
        self.orders = directory / "orders"
        self.orders.mkdir()
        self.api_port, self.admin_port = free_port(), free_port()
        self.launcher: subprocess.Popen[bytes] | None = None
        self.launches = 0
        self._changes = changes or {}

    @classmethod
    @contextmanager
    def started(cls, *, changes: dict[str, str] | None = None) -> Iterator[Instance]:
        """Run an instance with `changes` to its environment until the block ends."""
        with (
            tempfile.TemporaryDirectory(prefix="bountycoder-faults-") as name,
            ExitStack() as stack,
        ):
            instance = cls(Path(name), changes=changes)
            stack.callback(instance._unmount)
            stack.callback(instance.stop)
            instance._start()
            yield instance

    def _start(self) -> None:
        self.network = Network()
        with patch.dict(SERVER_SETTINGS, POSTGRES):
            self.postgres.start()
        self.valkey.start()
        upgrade(self.postgres.url)
        to = {"postgres": self.postgres.port, "valkey": self.valkey.port}
        #: By the side that uses it and the server that it leads to.
        self.links = {
            (side, server): Link(self.network, to_port=port)
            for side in ("api", "worker")
            for server, port in to.items()
        }
        self._database = open_database(self.settings)
        self.sessions: SessionFactory = sessions(self._database)
        self.redis: redis.Redis = open_redis(self.settings)
        self.launch()
        self.admin = self._sign_in()

    @property
    def settings(self) -> Settings:
        """Settings that reach the servers past all links."""
        return Settings.from_environment(
            {
                "MODEL_PATH": str(MODEL),
                "DATABASE_URL": self.postgres.url,
                "REDIS_URL": self.valkey.url,
                **ENVIRONMENT,
                **self._changes,
            }
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    def stop(self) -> None:
        """End everything, however broken it is."""
        running = [*self.pids().values(), *self.api_processes()]
        if self.launcher is not None:
            self.launcher.kill()
            self.launcher.wait(STOP_SECONDS)
        for pid in running:  # the guardian does so too, unless it was stopped
            _signal(pid, signal.SIGKILL)
        self._database.dispose()
        self.redis.close()
        self.valkey.stop()
        self.postgres.stop()
        for link in self.links.values():
            link.close()
        self.network.close()

    def launch(self) -> None:
        """Start the launcher and wait until all parts serve."""
        self.launches += 1
        with open(self.directory / f"up-{self.launches}.out", "wb") as output:
            self.launcher = subprocess.Popen(
                [*PROGRAM, "up", "--data-dir", str(self.directory / "data"), *self._options()],
                cwd=ROOT,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_until(self.is_whole, READY_SECONDS, self.explain)

    def _options(self) -> list[str]:
        ports = ["--api-port", str(self.api_port), "--admin-port", str(self.admin_port)]
        return [*ports, "--workers", str(WORKER_COUNT)]

    def _environment(self) -> dict[str, str]:
        environment = {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "MODEL_PATH": str(MODEL),
            ORDERS: str(self.orders),
            **ENVIRONMENT,
            **self._changes,
            **self.clock.environment,
        }
        for prefix, side in (("", "api"), (WORKERS, "worker")):
            for name, server, url in (
                ("DATABASE_URL", "postgres", self.postgres.url),
                ("REDIS_URL", "valkey", self.valkey.url),
            ):
                port = urlsplit(url).port
                own = f":{self.links[side, server].port}/"
                environment[prefix + name] = url.replace(f":{port}/", own)
        return environment

    # What runs.

    def pids(self) -> dict[str, int]:
        """Return the processes that the launcher keeps, by name."""
        try:
            return dict(json.loads((self.directory / "data" / "run.json").read_text())["pids"])
        except (OSError, ValueError, KeyError):
            return {}

    def workers(self) -> list[int]:
        pids = self.pids()
        found = [pids.get(f"worker-{number}") for number in range(1, WORKER_COUNT + 1)]
        return [pid for pid in found if pid is not None and psutil.pid_exists(pid)]

    def api_processes(self) -> list[int]:
        """Return gunicorn's processes, its master first."""
        master = self.pids().get("api")
        if master is None:
            return []
        with suppress(psutil.NoSuchProcess):
            return [master, *(child.pid for child in psutil.Process(master).children())]
        return []

    def api_places(self) -> dict[str, int]:
        """Return the same by name."""
        master, *children = self.api_processes() or [None]
        places = {f"api-{place}": pid for place, pid in enumerate(children) if pid is not None}
        return places if master is None else {"api": master, **places}

    def is_whole(self) -> bool:
        """Say whether every part serves: the API, both workers, PostgreSQL and Valkey."""
        try:
            answer = requests.get(f"{self.url}/readyz", timeout=CALL_SECONDS)
            registry = WorkerRegistry(self.redis)
            own = {str(pid) for pid in self.workers()}
            ready = {status.worker_id.rsplit("-", 2)[1] for status in registry.ready()}
        except (requests.RequestException, redis.RedisError):
            return False
        return answer.status_code == 200 and len(own) == WORKER_COUNT and own <= ready

    # Mending.

    def mend(self) -> None:
        """Let nothing be broken any more, and wait until all parts serve."""
        self.mend_servers()
        self.mend_processes()
        assert self.launcher is not None
        if self.launcher.poll() is not None:
            self.launch()  # as whatever keeps the launcher would
        deadline = time.monotonic() + READY_SECONDS
        while not self.is_whole():
            assert time.monotonic() < deadline, f"not whole again\n{self.explain()}"
            if self.launcher.poll() is not None:
                self.launch()
            time.sleep(0.05)

    def mend_servers(self) -> None:
        """Let PostgreSQL, Valkey, the network and the disk be as they should."""
        self.fill_disk(is_full=False)
        for pid in self._server_pids():
            _signal(pid, signal.SIGCONT)
        self.start_servers()
        for link in self.links.values():
            if link.state is not LinkState.UP:
                link.set(LinkState.UP)
        self.clock.reset()

    def start_servers(self) -> None:
        """Start PostgreSQL and Valkey if they have ended; PostgreSQL not before it has a disk."""
        postgres, valkey = self.postgres.child, self.valkey.child
        if not self._ballast.exists() and (postgres is None or not postgres.is_alive()):
            with patch.dict(SERVER_SETTINGS, POSTGRES):
                self.postgres.spawn()
            self.postgres.wait_ready()
        if valkey is None or not valkey.is_alive():
            self.valkey.start()

    def mend_processes(self) -> None:
        """Let what stands still go on."""
        for order in self.orders.iterdir():
            order.unlink(missing_ok=True)
        for pid in (*self.pids().values(), *self.api_processes()):
            _signal(pid, signal.SIGCONT)

    def server_processes(self, server: str) -> list[int]:
        """Return a server's processes, its main one first."""
        child = (self.postgres if server == "postgres" else self.valkey).child
        if child is None or not child.is_alive():
            return []
        with suppress(psutil.NoSuchProcess):
            return [child.pid, *(one.pid for one in psutil.Process(child.pid).children())]
        return []

    def _server_pids(self) -> list[int]:
        return [*self.server_processes("postgres"), *self.server_processes("valkey")]

    def fill_disk(self, *, is_full: bool) -> None:
        """Leave PostgreSQL no room on its disk, or give it back."""
        if not is_full:
            self._ballast.unlink(missing_ok=True)
            return
        block = bytes(1024**2)
        with open(self._ballast, "wb", buffering=0) as file, suppress(OSError):
            while file.write(block) == len(block):
                pass

    # Seeing.

    def _sign_in(self) -> dict[str, str]:
        body = {"email": DEFAULT_ADMIN_EMAIL, "password": DEFAULT_ADMIN_PASSWORD}
        answer = requests.post(f"{self.url}/api/auth/login", json=body, timeout=CALL_SECONDS)
        assert answer.status_code == 200, answer.text
        return {"Authorization": f"Bearer {answer.json()['token']}"}

    def make_key(self, **fields: Any) -> dict[str, Any]:
        body = {"name": "faults", "rateLimit": 1_000_000, **fields}
        answer = requests.post(
            f"{self.url}/api/keys", json=body, headers=self.admin, timeout=CALL_SECONDS
        )
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def log_files(self) -> list[Path]:
        return [
            *sorted(self.directory.glob("up-*.out")),
            *sorted(self.directory.glob("data/logs/*")),
            *sorted(self.logs.glob("*.log*")),
        ]

    def explain(self) -> str:
        """Return the end of every log."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-6000:]}"
            for path in self.log_files()
        )

    def _unmount(self) -> None:
        if self.disk_is_small:
            subprocess.run(["umount", "-l", str(self.disk)], check=False, timeout=STOP_SECONDS)


def _mount(directory: Path) -> bool:
    """Make a disk that can be filled; False where that is not allowed."""
    if os.geteuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(directory)]
    done = subprocess.run(command, check=False, capture_output=True, timeout=STOP_SECONDS)
    return done.returncode == 0


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
