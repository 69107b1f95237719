"""The API raises its limit of open files where it may, and survives where it may not."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
import redis
import requests

from cli.system.ports import free_port
from core.config.settings import Settings
from tests.support.polling import wait_until
from tests.support.processes import kill_with_children
from tests.support.service import READY_SECONDS, Service

#: Connections, more than the usual soft limit of a shell.
IDLE = 1300
USUAL = 1024


@contextmanager
def api(settings: Settings, directory: Path, *, soft: int, hard: str) -> Iterator[Service]:
    """Run one API process under limits of open files."""
    ports = {"api_port": free_port(), "api_metrics_port": free_port(), "api_processes": 1}
    service = Service(settings.model_copy(update=ports), directory)
    service.api = service.spawn("api", prefix=("prlimit", f"--nofile={soft}:{hard}"))
    try:
        wait_until(service.responds, READY_SECONDS, service.logs)
        yield service
    finally:
        kill_with_children(service.api)


@contextmanager
def idle_connections(port: int, count: int) -> Iterator[None]:
    with ExitStack() as opened:
        for _ in range(count):
            opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        yield


def seconds_used(service: Service) -> float:
    assert service.api is not None
    (process,) = psutil.Process(service.api.pid).children()
    times = process.cpu_times()
    return float(times.user + times.system)


def test_more_connections_fit_than_the_soft_limit_allows(
    base_settings: Settings, redis_client: redis.Redis, tmp_path: Path
) -> None:
    with api(base_settings, tmp_path, soft=USUAL, hard="") as service:
        assert service.settings is not None
        with idle_connections(service.settings.api_port, IDLE):
            assert requests.get(f"{service.url}/healthz", timeout=8).status_code == 200

        assert "Traceback" not in service.logs()
        assert "connections fit" not in service.logs()


@pytest.mark.alone
def test_at_the_hard_limit_a_process_uses_little_processor_time_and_logs_once(
    base_settings: Settings, redis_client: redis.Redis, tmp_path: Path
) -> None:
    with api(base_settings, tmp_path, soft=USUAL, hard=str(USUAL)) as service:
        settings = service.settings
        with (
            idle_connections(settings.api_port, USUAL),
            idle_connections(settings.api_metrics_port, USUAL // 2),
        ):
            wait_until(lambda: "no more connections" in service.logs(), 10)
            before = seconds_used(service)
            time.sleep(2)  # the interval of the measurement
            spent = seconds_used(service) - before

        wait_until(service.responds, 20)
        logs = service.logs()
        assert spent < 1
        assert logs.count("768 connections fit into the 1024 files") == 1
        assert logs.count("no more connections") == 1
        assert "Traceback" not in logs
