"""The whole production topology on this machine.

NGINX with the templates of docker/nginx, two APIs, two workers, the admin UI, Prometheus with the
configuration of docker/prometheus, a PostgreSQL and its replica, a Valkey.

The engine is the echo engine with a pace: the tests try everything around the model.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cli.monitoring.settings import MonitoringSettings
from cli.servers.postgres import Postgres
from cli.servers.valkey import Valkey
from cli.system.child_process import Child
from cli.system.ports import free_port
from core.config.settings import Settings
from tests.support.docker.nginx import Nginx, servers, variables
from tests.support.monitoring.monitoring import Monitoring, Programs
from tests.support.monitoring.programs import find_program
from tests.support.polling import wait_until
from tests.support.postgres import REPLICA, base_backup, running, url_of_writable
from tests.support.processes import kill_with_children, responds
from tests.support.service import Service

READY_SECONDS = 90.0
COMMAND_SECONDS = 60.0
API, ADMIN = "5000", "3030"
#: Linux has all of 127.0.0.0/8: each API has its own address, as in containers.
API_ADDRESSES = ("127.0.0.2", "127.0.0.3")
WORKERS = 2
#: Tokens a second of each stream.
PACE = 40.0
#: An API ends waiting requests four seconds before its grace period ends (core/web/server.py).
API_DRAIN_SECONDS = 6
WORKER_DRAIN_SECONDS = 2
#: Of a completion that takes longer than a worker's drain.
LONG_TOKENS = round(2 * WORKER_DRAIN_SECONDS * PACE)
ENVIRONMENT = {
    "ENGINE": "echo",
    "ECHO_TOKENS_PER_SECOND": str(PACE),
    "DRAIN_SECONDS": str(API_DRAIN_SECONDS),
    "LEASE_SECONDS": "4",
    "TRUSTED_PROXIES": "1",
    "POLL_RATE_LIMIT": "1000000",
    "WRITE_RATE_LIMIT": "1000000",
    "MAX_WAITS_PER_USER": "1000000",
    "SECRET_KEY": "a secret of the topology, longer than 32 characters",
}


@dataclass
class Topology:
    """All running parts.

    Attributes:
        service: calls the APIs through NGINX; has the workers and the admin UI.
        given: the environment of NGINX' container.
        apis: by their addresses.
        prometheus: `None` where it is not installed.
    """

    stack: ExitStack
    directory: Path
    service: Service
    primary: Postgres
    replica: Postgres
    valkey: Valkey
    nginx: Nginx
    given: Mapping[str, str]
    api_port: int
    apis: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    monitoring: Monitoring | None = None
    prometheus: Child | None = None
    _metrics_ports: dict[str, int] = field(default_factory=dict)
    _replicas: int = 1

    @classmethod
    @contextmanager
    def started(cls, directory: Path, model: Path) -> Iterator[Topology]:
        """Run all parts until the block ends."""
        with ExitStack() as stack:
            primary = stack.enter_context(running(directory, "primary"))
            primary.create_database()
            base_backup(primary, directory / "replica-1", *REPLICA)
            replica = stack.enter_context(running(directory, "replica-1"))
            valkey = Valkey(directory / "valkey", log_dir=directory)
            stack.callback(valkey.stop)
            valkey.start()
            own = {
                "DATABASE_URL": url_of_writable(primary, replica),
                "REDIS_URL": valkey.url,
                "MODEL_PATH": str(model),
                "ADMIN_PORT": str(free_port()),
            }
            settings = Settings.from_environment({**ENVIRONMENT, **own})
            api_port = free_port()
            given = variables(
                settings,
                API_SERVERS=servers(*(f"{address}:{api_port}" for address in API_ADDRESSES)),
                ADMIN_SERVERS=servers(f"127.0.0.1:{settings.admin_port}"),
            )
            nginx = Nginx.start(directory / "nginx-1", "plain", given)
            stack.callback(nginx.stop)
            changes = {"api_port": nginx.ports[API], "api_url": nginx.url(API)}
            service = Service(settings.model_copy(update=changes), directory)
            topology = cls(
                stack, directory, service, primary, replica, valkey, nginx, given, api_port
            )
            stack.callback(topology._stop)
            topology._start()
            yield topology

    @property
    def admin_url(self) -> str:
        return self.nginx.url(ADMIN)

    def spawn_api(self, address: str) -> None:
        port = self._metrics_port(f"api {address}")
        changes = {"api_host": address, "api_port": self.api_port, "api_metrics_port": port}
        self.apis[address] = self.service.spawn("api", **changes)

    def wait_api(self, address: str) -> None:
        self._wait_response(f"http://{address}:{self.api_port}/healthz")

    def wait_passed_to(self, address: str, *, after: int) -> None:
        """Wait until NGINX logs, after a position of its log, a request to an API."""
        server = f"{address}:{self.api_port}"
        wait_until(lambda: self.nginx.has_passed_to(server, after=after), READY_SECONDS)

    def spawn_worker(self, number: int) -> None:
        port = self._metrics_port(f"worker {number}")
        changes = {"worker_metrics_port": port, "drain_seconds": WORKER_DRAIN_SECONDS}
        worker = self.service.spawn("worker", **changes)
        self.service.workers[number : number + 1] = [worker]

    def wait_workers(self) -> None:
        self.service.wait_ready(WORKERS)

    def wait_served(self) -> None:
        """Wait until an API reports that no part is away."""
        self._wait_response(f"{self.service.url}/readyz")

    def spawn_admin_ui(self) -> None:
        port = self._metrics_port("admin")
        self.service.admin_ui = self.service.spawn("admin-ui", admin_metrics_port=port)

    def targets(self) -> dict[str, list[int]]:
        """Return the ports that Prometheus scrapes, by job."""
        found: dict[str, list[int]] = {}
        for name, port in self._metrics_ports.items():
            found.setdefault(f"bountycoder-{name.partition(' ')[0]}", []).append(port)
        return found

    def replace_nginx(self) -> None:
        """Start another NGINX on the same ports; the old one finishes its requests."""
        old, number = self.nginx, int(self.nginx.directory.name.partition("-")[2]) + 1
        old.leave()
        directory = self.directory / f"nginx-{number}"
        self.nginx = Nginx.start(directory, "plain", self.given, old.ports)
        self.stack.callback(self.nginx.stop)

    def add_replica(self) -> None:
        """Make a replica of the present primary, on the port of the lost server."""
        self._replicas += 1
        name = f"replica-{self._replicas}"
        base_backup(self.primary, self.directory / name, *REPLICA)
        port = self.replica.port
        self.replica = self.stack.enter_context(running(self.directory, name, port=port))

    def _start(self) -> None:
        for command in ("migrate", "seed"):
            code = self.service.spawn(command).wait(COMMAND_SECONDS)
            assert code == 0, self.service.logs()
        for address in API_ADDRESSES:
            self.spawn_api(address)
        for number in range(WORKERS):
            self.spawn_worker(number)
        self.spawn_admin_ui()
        if find_program("prometheus") is not None:
            self._start_monitoring()
        for address in API_ADDRESSES:
            self.wait_api(address)
        self.service.wait_admin_ui()
        self.wait_workers()

    def _start_monitoring(self) -> None:
        programs = Programs(self.directory)
        self.stack.callback(programs.stop)
        self.monitoring = Monitoring(programs, MonitoringSettings.from_environment({}))
        self.monitoring.start(self.targets(), files=self.directory, prober=free_port())
        self.prometheus = self.monitoring.prometheus

    def _stop(self) -> None:
        for api in self.apis.values():
            kill_with_children(api)
        self.service.stop()

    def _metrics_port(self, program: str) -> int:
        """Return the port of a program's metrics: the same for each start."""
        return self._metrics_ports.setdefault(program, free_port())

    def _wait_response(self, url: str) -> None:
        wait_until(lambda: responds(url), READY_SECONDS, self.service.logs)
