"""Jobs survive the death of their workers."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import func, select

from core.config.settings import Settings
from models.jobs.job import Job
from models.usage.usage import Usage
from tests.support.polling import wait_until
from tests.support.service import Service

#: Tokens a second of each stream: a job takes seconds.
PACE = 10.0


@pytest.fixture
def slow_workers(
    base_settings: Settings, redis_client: redis.Redis, database: Any, tmp_path: Path
) -> Iterator[Service]:
    """Two workers so slow that no job ends while they drain."""
    changes = {"echo_tokens_per_second": PACE, "drain_seconds": 0.5}
    with Service.started(base_settings, tmp_path, workers=2, **changes) as service:
        yield service


class WaitingClient(threading.Thread):
    """A client that waits for its completion."""

    def __init__(self, service: Service, secret: str) -> None:
        super().__init__()
        self._service, self._secret = service, secret
        self.response: Any = None
        self.start()

    def run(self) -> None:
        self.response = self._service.call(
            "POST",
            "/api/llm/generate",
            json={"prompt": "hello", "maxTokens": 50},
            headers={"x-api-key": self._secret},
        )


def running_jobs(service: Service) -> dict[str, list[Job]]:
    """Return the running jobs by the process id of their worker."""
    with service.sessions() as session:
        jobs = session.scalars(select(Job).where(Job.state == "running")).all()
    by_worker: dict[str, list[Job]] = {}
    for job in jobs:
        by_worker.setdefault(str(job.worker_id).rsplit("-", 2)[1], []).append(job)
    return by_worker


def usage_rows(service: Service) -> int:
    with service.sessions() as session:
        count = session.scalar(select(func.count()).select_from(Usage))
    return int(count or 0)


@pytest.mark.alone
def test_a_killed_workers_jobs_run_elsewhere_within_15_s_and_count_once(
    slow_workers: Service,
) -> None:
    secret = slow_workers.make_key()["secret"]
    calls = [WaitingClient(slow_workers, secret) for _ in range(6)]
    wait_until(
        lambda: sum(map(len, running_jobs(slow_workers).values())) == 6, 20, slow_workers.logs
    )
    victim = max(
        slow_workers.workers, key=lambda w: len(running_jobs(slow_workers).get(str(w.pid), []))
    )
    assert running_jobs(slow_workers)[str(victim.pid)]

    victim.kill()
    victim.wait(10)
    killed = time.monotonic()
    wait_until(lambda: str(victim.pid) not in running_jobs(slow_workers), 15, slow_workers.logs)
    for call in calls:
        call.join(60)

    assert time.monotonic() - killed < 30
    assert [call.response.status_code for call in calls] == [200] * 6
    assert usage_rows(slow_workers) == 6


def test_a_drained_worker_requeues_unfinished_jobs(slow_workers: Service) -> None:
    secret = slow_workers.make_key()["secret"]
    calls = [WaitingClient(slow_workers, secret) for _ in range(4)]
    wait_until(
        lambda: sum(map(len, running_jobs(slow_workers).values())) == 4, 20, slow_workers.logs
    )
    drained = max(
        slow_workers.workers, key=lambda w: len(running_jobs(slow_workers).get(str(w.pid), []))
    )

    drained.send_signal(signal.SIGTERM)
    assert drained.wait(20) == 0
    for call in calls:
        call.join(60)

    assert [call.response.status_code for call in calls] == [200] * 4
    assert usage_rows(slow_workers) == 4


def test_without_a_worker_a_call_returns_a_job_that_runs_later(
    base_settings: Settings, redis_client: redis.Redis, database: Any, tmp_path: Path
) -> None:
    with Service.started(base_settings, tmp_path, sync_wait_seconds=1.0) as service:
        headers = {"x-api-key": service.make_key()["secret"]}
        service.end_worker(service.workers[0])

        response = service.call(
            "POST", "/api/llm/generate", json={"prompt": "later"}, headers=headers
        )
        assert response.status_code == 202
        assert response.headers["Location"] == f"/api/llm/jobs/{response.json()['id']}"
        assert service.call("GET", "/readyz").json()["parts"]["workers"] == "none"

        service.add_worker()
        path = response.headers["Location"]
        wait_until(
            lambda: service.call("GET", path, headers=headers).json()["status"] == "succeeded",
            30,
            service.logs,
        )
