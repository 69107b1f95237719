"""If the database accepts connections and does not respond, callers get an error in time."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis
import requests
from sqlalchemy import create_engine, text

from cli.servers.postgres import Postgres
from core.config.settings import Settings
from tests.support.http.errors import error_of
from tests.support.polling import wait_until
from tests.support.service import Service

#: Jobs in flight before the database freezes, and the limit of their key.
BEFORE, MOST = 3, 20
TRIES = 4


@pytest.fixture
def ask(
    base_settings: Settings, postgres: Postgres, tmp_path: Path, redis_client: redis.Redis
) -> Iterator[Callable[[], requests.Response]]:
    """Return a function that submits a job. Its key is cached: the next statement is the INSERT."""
    settings = Settings.from_environment(
        {**base_settings.to_environment(), "DATABASE_URL": postgres.url}
    )
    few = {"database_timeout_seconds": 1, "database_pool_size": 2}
    with Service.started(settings, tmp_path / "logs", workers=0, **few) as service:
        headers = {"x-api-key": service.make_key(maxInFlight=MOST)["secret"]}

        def ask() -> requests.Response:
            return service.call("POST", "/api/llm/jobs", json={"prompt": "x"}, headers=headers)

        for _ in range(BEFORE):
            assert ask().status_code == 202
        yield ask


@pytest.mark.alone
def test_requests_end_in_time_when_the_database_freezes(
    postgres: Postgres, ask: Callable[[], requests.Response]
) -> None:
    for _ in range(MOST - BEFORE - 1):
        assert ask().status_code == 202
    with frozen([server(postgres), *backends(postgres)]):
        began = time.monotonic()
        response = ask()
        seconds = time.monotonic() - began
    assert (response.status_code, error_of(response)) == (503, "database_unavailable")
    assert seconds < 10

    wait_until(lambda: ask().status_code == 202, 5)  # the last slot


def test_a_job_whose_insert_was_abandoned_is_cancelled_when_the_insert_completes(
    postgres: Postgres, ask: Callable[[], requests.Response]
) -> None:
    accepted = BEFORE
    # The API tests a connection that was idle for a second, before it sends the INSERT. Such a try
    # does not count.
    for _ in range(TRIES):
        assert ask().status_code == 202
        accepted += 1
        old = backends(postgres)
        with frozen(old):
            is_refused = ask().status_code == 503
            is_given_up = is_refused and appears(postgres, "cancelled", seconds=15)
        accepted += not is_refused
        if is_given_up:
            break
    # The abandoned backends execute the statement that they received, and exit.
    psutil.wait_procs(old, timeout=2)

    assert Counter(states(postgres)) == {"queued": accepted, "cancelled": 1}


def appears(postgres: Postgres, state: str, *, seconds: float) -> bool:
    """Wait for a job in this state; return whether there was one in time."""
    deadline = time.monotonic() + seconds
    while state not in states(postgres):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def states(postgres: Postgres) -> list[str]:
    engine = create_engine(postgres.url)
    with engine.connect() as connection:
        found = connection.scalars(text("select state from jobs order by id")).all()
    engine.dispose()
    return list(found)


def server(postgres: Postgres) -> psutil.Process:
    assert postgres.child is not None
    return psutil.Process(postgres.child.pid)


def backends(postgres: Postgres) -> list[psutil.Process]:
    """Return the server's processes that serve connections."""
    children = server(postgres).children()
    return [one for one in children if "127.0.0.1(" in " ".join(one.cmdline())]


@contextmanager
def frozen(processes: Sequence[psutil.Process]) -> Iterator[None]:
    """Stop processes during the block."""
    for process in processes:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process.pid, signal.SIGCONT)
