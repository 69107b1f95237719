"""A full disk of metrics costs metrics, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
import requests

from cli.system.ports import free_port
from core.config.settings import Settings
from tests.support.service import Service

#: Runs a program with its own mount: `$0` is the directory, `$1` the options of the disk.
ON_A_DISK = 'mount -t tmpfs -o "$1" tmpfs "$0" && shift && exec "$@"'
#: The first file fits; no other does.
SIZE = "size=80k"
PROGRAMS = ("api", "worker", "admin-ui")


@pytest.fixture
def service(
    base_settings: Settings, tmp_path: Path, redis_client: redis.Redis
) -> Iterator[Service]:
    ports = ("api_port", "admin_port", "api_metrics_port", "worker_metrics_port")
    changes = {name: free_port() for name in (*ports, "admin_metrics_port")}
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    own = {**changes, "metrics_dir": str(metrics), "api_processes": 1}
    service = Service(base_settings.model_copy(update=own), tmp_path)
    service._seed()
    rights = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-Urm")
    prefix = (*rights, "sh", "-c", ON_A_DISK, str(metrics), SIZE)
    try:
        service.api, worker, service.admin_ui = (
            service.spawn(program, prefix=prefix) for program in PROGRAMS
        )
        service.workers.append(worker)
        service.wait_admin_ui()
        service.wait_ready()
        yield service
    finally:
        service.stop()


def test_a_disk_of_metrics_without_room_stops_no_program(service: Service) -> None:
    assert service.api is not None
    processes = {child.pid for child in psutil.Process(service.api.pid).children()}
    headers = {"x-api-key": service.make_key()["secret"]}

    for _ in range(3):
        response = service.call("POST", "/api/llm/generate", json={"prompt": "x"}, headers=headers)
        assert response.status_code == 200
    settings = service.settings
    for port in (
        settings.api_metrics_port,
        settings.worker_metrics_port,
        settings.admin_metrics_port,
    ):
        page = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10)
        assert page.status_code == 200

    assert {child.pid for child in psutil.Process(service.api.pid).children()} == processes
    for program in PROGRAMS:
        (log,) = service.directory.glob(f"{program}-*.log")
        assert "no room for metrics" in log.read_text()
        assert "Traceback" not in log.read_text()
