"""A worker process exits on a signal, even while its servers are away."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis

from cli.servers.postgres import Postgres
from cli.servers.valkey import Valkey
from core.config.settings import Settings
from core.queueing.broker import JobQueue
from core.queueing.names import QueueName
from core.queueing.workers import WorkerRegistry
from core.redis.client import open_redis
from migrations.run import upgrade
from models.database.base import SessionFactory, open_database, sessions
from models.jobs.job import Job
from tests.support.factories.rows import add_job
from tests.support.polling import wait_until
from tests.support.service import Service


def is_worker_ready(client: redis.Redis) -> bool:
    return bool(WorkerRegistry(client).ready())


@pytest.mark.alone
def test_an_idle_worker_exits_at_once(
    base_settings: Settings, redis_client: redis.Redis, database: SessionFactory, tmp_path: Path
) -> None:
    service = Service(base_settings, tmp_path)
    worker = service.add_worker()
    wait_until(lambda: is_worker_ready(redis_client), 60, service.logs)

    signalled_at = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    code = worker.wait(20)

    assert code == 0
    assert time.monotonic() - signalled_at < 2  # 0.3 s on an idle machine
    assert not WorkerRegistry(redis_client).alive()


@pytest.fixture
def service_with_servers(
    base_settings: Settings, tmp_path: Path
) -> Iterator[tuple[Postgres, Valkey, Service]]:
    """A worker that runs a job of one minute, and its own servers, which tests may stop."""
    postgres = Postgres(tmp_path / "postgres", log_dir=tmp_path, is_durable=False)
    valkey = Valkey(tmp_path / "valkey", log_dir=tmp_path)
    try:
        postgres.start()
        valkey.start()
        upgrade(postgres.url)
        settings = Settings.from_environment(
            {
                **base_settings.to_environment(),
                "DATABASE_URL": postgres.url,
                "REDIS_URL": valkey.url,
                "DATABASE_TIMEOUT_SECONDS": "1",
                "ECHO_TOKENS_PER_SECOND": "5",
                "DRAIN_SECONDS": "0.5",
            }
        )
        service = Service(settings, tmp_path)
        service.add_worker()
        start_long_job(service)
        yield postgres, valkey, service
    finally:
        service.stop()
        valkey.stop()
        postgres.stop()


def start_long_job(service: Service) -> None:
    engine, client = open_database(service.settings), open_redis(service.settings)
    with sessions(engine).begin() as session:
        job = add_job(session, request={"prompt": "x", "maxTokens": 300, "ignoreEos": True})
    JobQueue(client).send(job.id, QueueName.INTERACTIVE)

    def has_started() -> bool:
        with sessions(engine)() as session:
            return session.get_one(Job, job.id).state == "running"

    wait_until(has_started, 60, service.logs)
    engine.dispose()
    client.close()


@pytest.mark.alone
@pytest.mark.parametrize("is_frozen", [True, False])
def test_a_worker_exits_while_redis_and_the_database_are_away(
    service_with_servers: tuple[Postgres, Valkey, Service], is_frozen: bool
) -> None:
    postgres, valkey, service = service_with_servers
    [worker] = service.workers

    with stopped(postgres, valkey, is_frozen=is_frozen):
        signalled_at = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        code = worker.wait(20)
        seconds = time.monotonic() - signalled_at

    assert code == 0, service.logs()
    assert seconds < 13


@contextmanager
def stopped(postgres: Postgres, valkey: Valkey, *, is_frozen: bool) -> Iterator[None]:
    """Stop the servers. Frozen servers accept connections and do not respond."""
    if not is_frozen:
        valkey.stop()
        postgres.stop()
        yield
        return
    parents = [server.child.pid for server in (postgres, valkey) if server.child is not None]
    processes = [process for pid in parents for process in (pid, *_children(pid))]
    _signal(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(processes, signal.SIGCONT)


def _signal(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):  # a backend may have ended after the listing
            os.kill(process, number)


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
