"""Jobs that wait without a worker, or whose worker or API process ends."""

from __future__ import annotations

import itertools
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from core.config.settings import Settings
from tests.support.http.jobs import PROMPT, job_of, state_of, stream_of, submit, usage_of
from tests.support.http.sse import events, text_of
from tests.support.polling import wait_until
from tests.support.service import PACE, Service

#: The lease also sets how often workers check for expired jobs.
LEASE_SECONDS = 2


def test_a_follower_joins_while_the_job_is_queued(
    base_settings: Settings, tmp_path_factory: pytest.TempPathFactory, redis_client: redis.Redis
) -> None:
    directory = tmp_path_factory.mktemp("queued")
    with Service.started(
        base_settings, directory, workers=0, echo_tokens_per_second=PACE
    ) as service:
        headers = {"x-api-key": service.make_key()["secret"]}
        body = {"prompt": PROMPT, "maxTokens": 200, "ignoreEos": True}  # eight seconds
        job = service.call("POST", "/api/llm/jobs", json=body, headers=headers).json()
        response = service.call(
            "GET", f"/api/llm/jobs/{job['id']}/stream", headers=headers, stream=True
        )
        stream = events(response)
        service.add_worker()
        first = next(stream)
        assert job_of(service, headers, job["id"])["status"] == "running"
        received = [first, *stream]
        ended = job_of(service, headers, job["id"])

    assert text_of(received) == ended["result"]["choices"][0]["text"]
    assert len(received) > 10


@pytest.mark.alone
def test_a_stream_continues_when_its_worker_dies(
    base_settings: Settings, tmp_path_factory: pytest.TempPathFactory, redis_client: redis.Redis
) -> None:
    directory = tmp_path_factory.mktemp("killed")
    with Service.started(
        base_settings, directory, echo_tokens_per_second=PACE, lease_seconds=LEASE_SECONDS
    ) as service:
        headers = {"x-api-key": service.make_key()["secret"]}
        stream = events(stream_of(service, headers, stream=True, maxTokens=60))
        received = list(itertools.islice(stream, 10))
        service.workers[0].kill()
        killed = time.monotonic()
        service.add_worker()
        received.append(next(stream))
        seconds = time.monotonic() - killed
        received += stream
        job = job_of(service, headers, received[0].json["id"])

    assert (job["attempt"], job["status"]) == (2, "succeeded")
    assert seconds < 10  # after its lease, the messages of a dead worker are requeued
    assert text_of(received) == job["result"]["choices"][0]["text"]
    assert received[-1].data == "[DONE]"


def test_a_stream_of_a_job_that_fails_ends_with_an_error_and_without_done(
    base_settings: Settings, tmp_path_factory: pytest.TempPathFactory, redis_client: redis.Redis
) -> None:
    directory = tmp_path_factory.mktemp("none")
    with Service.started(
        base_settings, directory, workers=0, lease_seconds=LEASE_SECONDS
    ) as service:
        headers = {"x-api-key": service.make_key()["secret"]}
        stream = events(stream_of(service, headers, stream=True, ttlSeconds=1))
        time.sleep(1.1)  # the job expires
        service.add_worker()  # its reaper finds the job
        received = list(stream)

    assert [event.json["error"]["code"] for event in received] == ["job_expired"]


def test_a_queued_job_is_cancelled_at_once_and_costs_nothing(
    service_without_workers: Service,
) -> None:
    service = service_without_workers
    headers = {"x-api-key": service.make_key()["secret"]}
    first, second = submit(service, headers), submit(service, headers)
    assert job_of(service, headers, second["id"])["position"] == 2

    response = service.call("DELETE", f"/api/llm/jobs/{first['id']}", headers=headers)
    follow: dict[str, Any] = {"headers": headers, "stream": True}

    assert response.json()["status"] == "cancelled"
    assert response.json()["usage"]["total_tokens"] == 0
    last = list(events(service.call("GET", f"/api/llm/jobs/{first['id']}/stream", **follow)))
    assert last[0].json["choices"][0]["finish_reason"] == "cancelled"
    assert usage_of(service, first["id"]) is None
    assert job_of(service, headers, second["id"])["position"] == 1
    repeated = service.call("DELETE", f"/api/llm/jobs/{first['id']}", headers=headers)
    assert (repeated.status_code, repeated.json()["status"]) == (200, "cancelled")


def test_a_job_that_no_worker_claims_in_time_expires(
    base_settings: Settings, tmp_path_factory: pytest.TempPathFactory, redis_client: redis.Redis
) -> None:
    directory = tmp_path_factory.mktemp("none")
    with Service.started(
        base_settings, directory, workers=0, lease_seconds=LEASE_SECONDS
    ) as service:
        headers = {"x-api-key": service.make_key()["secret"]}
        short = submit(service, headers, ttlSeconds=1)
        long = submit(service, headers, ttlSeconds=600)
        time.sleep(1.2)  # the short job expires
        service.add_worker()
        wait_until(lambda: state_of(service, headers, long["id"]) == "succeeded", 30)
        wait_until(lambda: state_of(service, headers, short["id"]) == "expired", 10)
        assert usage_of(service, short["id"]) is None


def states_of(service: Service, headers: dict[str, str]) -> list[str]:
    jobs = service.call("GET", "/api/llm/jobs", headers=headers).json()["data"]
    return [job["status"] for job in jobs]


def test_a_stopping_process_responds_to_waiting_clients_with_the_path_of_their_job(
    base_settings: Settings, tmp_path_factory: pytest.TempPathFactory, redis_client: redis.Redis
) -> None:
    with Service.started(
        base_settings,
        tmp_path_factory.mktemp("stopping"),
        echo_tokens_per_second=PACE,
        drain_seconds=3,
    ) as service:
        headers = {"x-api-key": service.make_key()["secret"]}
        body = {"prompt": PROMPT, "maxTokens": 150, "ignoreEos": True}  # six seconds
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(
                service.call, "POST", "/api/llm/generate", json=body, headers=headers
            )
            wait_until(lambda: "running" in states_of(service, headers), 10)
            assert service.api is not None
            service.api.send_signal(signal.SIGTERM)
            response = waiting.result(20)
            service.api.wait(10)
        job_id = response.json()["id"]
        service.api = service.spawn("api")
        service.wait_ready()

        assert response.status_code == 202
        assert response.headers["Location"].endswith(job_id)
        wait_until(lambda: state_of(service, headers, job_id) == "succeeded", 20)


def test_the_time_for_a_body_is_bounded(
    base_settings: Settings, tmp_path_factory: pytest.TempPathFactory, redis_client: redis.Redis
) -> None:
    with Service.started(
        base_settings, tmp_path_factory.mktemp("trickle"), workers=0, body_seconds=1
    ) as service:
        secret = service.make_key()["secret"]
        with socket.create_connection(("127.0.0.1", service.settings.api_port)) as connection:
            connection.settimeout(10)
            connection.sendall(
                b"POST /api/llm/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                + f"x-api-key: {secret}\r\nContent-Length: 1000\r\n\r\n".encode()
                + b'{"prompt": "'
            )
            response = connection.recv(65536)

        assert b" 408 " in response.splitlines()[0]
