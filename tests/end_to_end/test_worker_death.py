"""Workers die; jobs do not."""

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

from core.settings import Settings
from models.base import open_database, sessions
from models.job import Job
from models.usage import Usage
from tests.service import Service, wait_until

#: About this long runs a job of 30 tokens.
PACE = 10.0


@pytest.fixture
def slow(
    base_settings: Settings, client: redis.Redis, database: Any, tmp_path: Path
) -> Iterator[Service]:
    """Two slow workers that finish nothing while they drain."""
    changes = {"echo_tokens_per_second": PACE, "drain_seconds": 0.5}
    with Service.started(base_settings, tmp_path, workers=2, **changes) as service:
        yield service


class Call(threading.Thread):
    """A client that waits for its answer."""

    def __init__(self, service: Service, secret: str) -> None:
        super().__init__()
        self._service, self._secret = service, secret
        self.answer: Any = None
        self.start()

    def run(self) -> None:
        self.answer = self._service.call(
            "POST",
            "/api/llm/generate",
            json={"prompt": "hello", "maxTokens": 50},
            headers={"x-api-key": self._secret},
        )


def running_jobs(service: Service) -> dict[str, list[Job]]:
    """Return the running jobs by the process id of their worker."""
    engine = open_database(service.settings)
    with sessions(engine)() as session:
        jobs = session.scalars(select(Job).where(Job.state == "running")).all()
    engine.dispose()
    by_worker: dict[str, list[Job]] = {}
    for job in jobs:
        by_worker.setdefault(str(job.worker_id).rsplit("-", 2)[1], []).append(job)
    return by_worker


def usage_rows(service: Service) -> int:
    engine = open_database(service.settings)
    with sessions(engine)() as session:
        count = session.scalar(select(func.count()).select_from(Usage))
    engine.dispose()
    return int(count or 0)


def test_a_killed_workers_jobs_run_elsewhere_within_15_s_and_count_once(slow: Service) -> None:
    secret = slow.make_key()["secret"]
    calls = [Call(slow, secret) for _ in range(6)]
    wait_until(lambda: sum(map(len, running_jobs(slow).values())) == 6, 20, slow.logs)
    victim = max(slow.workers, key=lambda w: len(running_jobs(slow).get(str(w.pid), [])))
    assert running_jobs(slow)[str(victim.pid)]

    victim.kill()
    victim.wait(10)
    killed = time.monotonic()
    wait_until(lambda: str(victim.pid) not in running_jobs(slow), 15, slow.logs)
    for call in calls:
        call.join(60)

    assert time.monotonic() - killed < 30
    assert [call.answer.status_code for call in calls] == [200] * 6
    assert usage_rows(slow) == 6


def test_a_drained_worker_hands_back_what_it_cannot_finish(slow: Service) -> None:
    secret = slow.make_key()["secret"]
    calls = [Call(slow, secret) for _ in range(4)]
    wait_until(lambda: sum(map(len, running_jobs(slow).values())) == 4, 20, slow.logs)
    drained = max(slow.workers, key=lambda w: len(running_jobs(slow).get(str(w.pid), [])))

    drained.send_signal(signal.SIGTERM)
    assert drained.wait(20) == 0
    for call in calls:
        call.join(60)

    assert [call.answer.status_code for call in calls] == [200] * 4
    assert usage_rows(slow) == 4


def test_without_a_worker_a_call_becomes_a_job_that_is_done_later(
    base_settings: Settings, client: redis.Redis, database: Any, tmp_path: Path
) -> None:
    with Service.started(base_settings, tmp_path, sync_wait_seconds=1.0) as service:
        headers = {"x-api-key": service.make_key()["secret"]}
        worker = service.workers.pop()
        worker.send_signal(signal.SIGTERM)
        worker.wait(20)

        answer = service.call(
            "POST", "/api/llm/generate", json={"prompt": "later"}, headers=headers
        )
        assert answer.status_code == 202
        assert answer.headers["Location"] == f"/api/llm/jobs/{answer.json()['id']}"
        assert service.call("GET", "/readyz").json()["parts"]["workers"] == "none"

        service.add_worker()
        place = answer.headers["Location"]
        wait_until(
            lambda: service.call("GET", place, headers=headers).json()["status"] == "succeeded",
            30,
            service.logs,
        )
