"""A rolling upgrade from the last release, in the steps of docs/deployment.md.

First the new schema, then both versions side by side, then this version alone.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, select, text

from cli.servers.valkey import Valkey
from cli.system.ports import free_port
from core.config.settings import Settings
from models.database.base import sessions
from models.jobs.job import Job
from tests.support.docker.nginx import Nginx, servers, variables
from tests.support.polling import wait_until
from tests.support.processes import end, kill_with_children, responds
from tests.support.service import Service
from tests.system.topology.comparison import compare
from tests.system.topology.records import Records
from tests.system.topology.release import SCHEMA, last_release
from tests.system.topology.traffic import TopologyTraffic

API = "5000"
COMMAND_SECONDS = 60.0
API_DRAIN_SECONDS, WORKER_DRAIN_SECONDS = 6, 2
PACE = 40.0
OLD, NEW = "127.0.0.2", "127.0.0.3"


class Upgrade:
    """One database, Valkey and NGINX; an API and a worker of each version."""

    def __init__(
        self, settings: Settings, directory: Path, nginx: Nginx, given: dict[str, str], port: int
    ) -> None:
        front = settings.model_copy(update={"api_port": nginx.ports[API]})
        # NGINX passes the calls of both services to either version.
        mixed = {"holds_to_document": False}
        self.old = Service(front, directory / "old", source=last_release(), **mixed)
        self.new = Service(front, directory / "new", **mixed)
        self.nginx = nginx
        self.given = given
        self.port = port
        self.apis: dict[str, subprocess.Popen[bytes]] = {}
        for service in (self.old, self.new):
            service.directory.mkdir()

    def command(self, service: Service, name: str) -> None:
        """Run a command of one version to its end."""
        code = service.spawn(name).wait(COMMAND_SECONDS)
        assert code == 0, service.logs()

    def start(self, service: Service, address: str) -> None:
        """Start a worker and an API of one version, and wait until both work."""
        service.add_worker(drain_seconds=WORKER_DRAIN_SECONDS)
        changes = {"api_host": address, "api_port": self.port}
        self.apis[address] = service.spawn("api", **changes)
        url = f"http://{address}:{self.port}/healthz"
        wait_until(lambda: responds(url), COMMAND_SECONDS, service.logs)
        service.wait_ready(sum(len(s.workers) for s in (self.old, self.new)))

    def wait_passed_to(self, address: str) -> None:
        """Wait until NGINX retries the API, 5 seconds after it found no API there."""
        server = f"{address}:{self.port}"
        wait_until(lambda: self.nginx.has_passed_to(server), COMMAND_SECONDS, self.nginx.log)

    def stop_old(self) -> None:
        """Drain the old version's worker, remove its API from NGINX, then end its API.

        An API of 0.1.0 cuts its requests off when it ends.
        """
        self._end(self.old.workers.pop())
        self.nginx.change(self.given | {"API_SERVERS": servers(f"{NEW}:{self.port}")})
        self._end(self.apis[OLD])

    def _end(self, program: subprocess.Popen[bytes]) -> None:
        assert end(program, seconds=COMMAND_SECONDS) == 0, self.old.logs()

    def logged_refusals(self) -> list[str]:
        """Return the lines of the programs' logs about parts that were away."""
        lines = (self.old.logs() + self.new.logs()).splitlines()
        return [line for line in lines if "is away" in line]

    def close(self) -> None:
        for api in self.apis.values():
            kill_with_children(api)
        for service in (self.old, self.new):
            service.stop()


@pytest.fixture
def upgrade(base_settings: Settings, empty_database_url: str, tmp_path: Path) -> Iterator[Upgrade]:
    valkey = Valkey(tmp_path / "valkey", log_dir=tmp_path)
    port = free_port()
    own = {
        "DATABASE_URL": empty_database_url,
        "REDIS_URL": valkey.url,
        "ECHO_TOKENS_PER_SECOND": str(PACE),
        "DRAIN_SECONDS": str(API_DRAIN_SECONDS),
        "API_PROCESSES": "1",
        "TRUSTED_PROXIES": "1",
        "POLL_RATE_LIMIT": "1000000",
        "WRITE_RATE_LIMIT": "1000000",
        "MAX_WAITS_PER_USER": "1000000",
    }
    settings = Settings.from_environment({**base_settings.to_environment(), **own})
    apis = servers(*(f"{address}:{port}" for address in (OLD, NEW)))
    given = variables(settings, API_SERVERS=apis)
    try:
        valkey.start()
        with Nginx.started(tmp_path / "nginx", "plain", given) as nginx:
            upgrade = Upgrade(settings, tmp_path, nginx, given, port)
            try:
                yield upgrade
            finally:
                upgrade.close()
    finally:
        valkey.stop()


def test_the_last_release_is_replaced_while_it_serves(upgrade: Upgrade) -> None:
    settings = upgrade.new.settings
    engine = create_engine(settings.database_url.get_secret_value())
    for command in ("migrate", "seed"):
        upgrade.command(upgrade.old, command)
    assert _schema(engine) == SCHEMA
    upgrade.start(upgrade.old, OLD)
    secret = str(upgrade.old.make_key()["secret"])
    traffic = TopologyTraffic(
        upgrade.new.url,
        "",
        secret,
        long_tokens=round(2 * WORKER_DRAIN_SECONDS * PACE),
        without=frozenset({"page"}),
        holds_to_document=False,
    )

    with traffic.running() as records:
        traffic.wait_served()
        upgrade.command(upgrade.new, "migrate")
        traffic.wait_served()
        migrated = time.monotonic()
        upgrade.start(upgrade.new, NEW)
        upgrade.wait_passed_to(NEW)
        wait_until(lambda: len(_workers(engine)) == 2, COMMAND_SECONDS)
        traffic.wait_served()
        upgrade.stop_old()
        traffic.wait_served()
    comparison = compare(settings, records)
    workers = _workers(engine)
    engine.dispose()

    assert (records.faults, comparison.faults, comparison.lost) == ([], [], [])
    assert records.refusals == [], upgrade.logged_refusals()
    assert _each_kind_was_done_after(records, migrated)
    assert len(workers) == 2


def _schema(engine: Engine) -> str:
    with engine.connect() as connection:
        return str(connection.scalar(text("select version_num from alembic_version")))


def _workers(engine: Engine) -> set[str]:
    """Return the workers that ended jobs."""
    with sessions(engine)() as session:
        query = select(Job.worker_id).where(Job.finished_at.is_not(None)).distinct()
        return {str(worker) for worker in session.scalars(query) if worker}


def _each_kind_was_done_after(records: Records, moment: float) -> bool:
    return {"completion", "job", "stream", "batch"} <= set(records.kinds_since(moment))
