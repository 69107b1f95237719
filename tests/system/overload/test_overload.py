"""The API refuses generations when the queue is too long or a process is overloaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
import requests

from api.runtime.load_shedding import MIN_PENDING
from core.config.settings import Settings
from core.queueing.backlog import Backlog
from core.queueing.broker import JobQueue
from core.queueing.names import QueueName
from core.queueing.workers import WorkerRegistry
from tests.support.http.load_burst import burst
from tests.support.polling import wait_until
from tests.support.service import Service

JOBS = 150
BODY = {"prompt": "Say it", "maxTokens": 10, "ignoreEos": True}
#: The worker runs two jobs of ten tokens at once, at twenty tokens a second each.
JOBS_PER_SECOND = 4.0


@pytest.mark.alone
def test_a_full_worker_reports_its_rate_and_a_long_queue_refuses(
    base_settings: Settings, redis_client: redis.Redis, tmp_path: Path
) -> None:
    slow = {"echo_tokens_per_second": 20.0, "worker_jobs": 2, "drain_seconds": 0.0}
    with (
        Service.started(base_settings, tmp_path, max_queue_seconds=15.0, **slow) as service,
        requests.Session() as caller,
    ):
        caller.headers["x-api-key"] = service.make_key()["secret"]

        def submit() -> requests.Response:
            return caller.post(f"{service.url}/api/llm/jobs", json=BODY, timeout=30)

        statuses = [submit().status_code for _ in range(JOBS)]
        wait_until(lambda: submit().status_code == 503, 30, service.logs)
        refused = submit()
        backlog = Backlog(
            JobQueue(redis_client), WorkerRegistry(redis_client), max_seconds=1, max_length=1
        )

        assert set(statuses) <= {202, 503} and statuses[0] == 202
        assert refused.json()["error"]["code"] == "overloaded"
        seconds = backlog.state().seconds
        assert seconds is not None
        waiting = JobQueue(redis_client).length(QueueName.INTERACTIVE)
        assert seconds == pytest.approx(waiting / JOBS_PER_SECOND, rel=0.5)
        assert float(refused.headers["retry-after-ms"]) / 1000 == pytest.approx(seconds - 15, abs=2)


def test_an_overloaded_process_refuses_some_requests_and_completes_the_others(
    base_settings: Settings, tmp_path: Path
) -> None:
    # The burst is far larger than the number of requests admitted in a millisecond.
    changes = {"max_admission_seconds": 0.001, "api_processes": 1}
    with Service.started(base_settings, tmp_path, workers=0, **changes) as service:
        secret = {"x-api-key": service.make_key()["secret"]}

        responses = burst([f"{service.url}/api/llm/jobs"], BODY, secret, count=10 * MIN_PENDING)
        calm = [
            service.call("POST", "/api/llm/jobs", json=BODY, headers=secret).status_code
            for _ in range(3)
        ]
        listed = service.call("GET", "/api/llm/jobs?limit=100", headers=secret).json()["data"]

    refused = [response for response in responses if response.status == 503]
    assert refused and {response.code for response in refused} == {"overloaded"}
    assert all(1 <= int(response.headers["retry-after"]) <= 3 for response in refused)
    taken = [response for response in responses if response.status == 202]
    assert len(taken) >= MIN_PENDING and len(taken) + len(refused) == len(responses)
    assert calm == [202, 202, 202]
    made = {response.body["id"] for response in taken}
    newest = [job["id"] for job in listed][len(calm) : len(calm) + len(made)]
    assert len(made) == len(taken) and set(newest) <= made
