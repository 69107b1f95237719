"""Jobs that wait with no worker at hand, or whose worker dies: each test has its own service."""

from __future__ import annotations

import itertools
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from core.settings import Settings
from tests.api.sse import events, text_of
from tests.api.test_cancel import state_of, submit, usage_of
from tests.api.test_streams import PROMPT, ask, job_of
from tests.conftest import PACE
from tests.service import Service, wait_until

#: Workers look for what has expired as often as for silent workers, which follows from it.
LEASE_SECONDS = 2


def test_a_follower_joins_while_the_job_waits_in_line(
    base_settings: Settings, tmp_path_factory: pytest.TempPathFactory, client: redis.Redis
) -> None:
    directory = tmp_path_factory.mktemp("late")
    with Service.started(base_settings, directory, workers=0, echo_tokens_per_second=PACE) as late:
        headers = {"x-api-key": late.make_key()["secret"]}
        body = {"prompt": PROMPT, "maxTokens": 200, "ignoreEos": True}  # eight seconds
        job = late.call("POST", "/api/llm/jobs", json=body, headers=headers).json()
        answer = late.call("GET", f"/api/llm/jobs/{job['id']}/stream", headers=headers, stream=True)
        stream = events(answer)
        late.add_worker()
        first = next(stream)
        assert job_of(late, headers, job["id"])["status"] == "running"
        received = [first, *stream]
        ended = job_of(late, headers, job["id"])

    assert text_of(received) == ended["result"]["choices"][0]["text"]
    assert len(received) > 10


def test_a_stream_goes_on_when_its_worker_dies(
    base_settings: Settings, tmp_path_factory: pytest.TempPathFactory, client: redis.Redis
) -> None:
    directory = tmp_path_factory.mktemp("dying")
    with Service.started(
        base_settings, directory, echo_tokens_per_second=PACE, lease_seconds=LEASE_SECONDS
    ) as dying:
        headers = {"x-api-key": dying.make_key()["secret"]}
        stream = events(ask(dying, headers, stream=True, maxTokens=60))
        received = list(itertools.islice(stream, 10))
        dying.workers[0].kill()
        killed = time.monotonic()
        dying.add_worker()
        received.append(next(stream))
        seconds = time.monotonic() - killed
        received += stream
        job = job_of(dying, headers, received[0].json["id"])

    assert (job["attempt"], job["status"]) == (2, "succeeded")
    assert seconds < 10  # what Redis holds for a silent worker waits no longer than its lease
    assert text_of(received) == job["result"]["choices"][0]["text"]
    assert received[-1].data == "[DONE]"


def test_a_stream_of_a_job_that_fails_ends_with_an_error_and_without_done(
    base_settings: Settings, tmp_path_factory: pytest.TempPathFactory, client: redis.Redis
) -> None:
    directory = tmp_path_factory.mktemp("none")
    with Service.started(base_settings, directory, workers=0, lease_seconds=LEASE_SECONDS) as idle:
        headers = {"x-api-key": idle.make_key()["secret"]}
        stream = events(ask(idle, headers, stream=True, ttlSeconds=1))
        time.sleep(1.1)
        idle.add_worker()  # its reaper finds the job
        received = list(stream)

    assert [event.json["error"]["code"] for event in received] == ["job_expired"]


def test_a_queued_job_is_cancelled_at_once_and_costs_nothing(
    base_settings: Settings, tmp_path_factory: pytest.TempPathFactory, client: redis.Redis
) -> None:
    with Service.started(base_settings, tmp_path_factory.mktemp("none"), workers=0) as idle:
        headers = {"x-api-key": idle.make_key()["secret"]}
        first, second = submit(idle, headers), submit(idle, headers)
        shown = idle.call("GET", f"/api/llm/jobs/{second['id']}", headers=headers).json()
        assert shown["position"] == 2

        answer = idle.call("DELETE", f"/api/llm/jobs/{first['id']}", headers=headers)
        follow: dict[str, Any] = {"headers": headers, "stream": True}

        assert answer.json()["status"] == "cancelled"
        assert answer.json()["usage"]["total_tokens"] == 0
        last = list(events(idle.call("GET", f"/api/llm/jobs/{first['id']}/stream", **follow)))
        assert last[0].json["choices"][0]["finish_reason"] == "cancelled"
        assert usage_of(idle, first["id"]) is None
        shown = idle.call("GET", f"/api/llm/jobs/{second['id']}", headers=headers).json()
        assert shown["position"] == 1
        again = idle.call("DELETE", f"/api/llm/jobs/{first['id']}", headers=headers)
        assert (again.status_code, again.json()["status"]) == (200, "cancelled")


def test_a_job_that_has_not_begun_in_its_time_expires(
    base_settings: Settings, tmp_path_factory: pytest.TempPathFactory, client: redis.Redis
) -> None:
    directory = tmp_path_factory.mktemp("none")
    with Service.started(base_settings, directory, workers=0, lease_seconds=LEASE_SECONDS) as idle:
        headers = {"x-api-key": idle.make_key()["secret"]}
        short = submit(idle, headers, ttlSeconds=1)
        long = submit(idle, headers, ttlSeconds=600)
        time.sleep(1.2)
        idle.add_worker()
        wait_until(lambda: state_of(idle, headers, long["id"]) == "succeeded", 30)
        wait_until(lambda: state_of(idle, headers, short["id"]) == "expired", 10)
        assert usage_of(idle, short["id"]) is None


def test_a_process_that_stops_answers_those_who_wait_with_the_jobs_address(
    base_settings: Settings, tmp_path_factory: pytest.TempPathFactory, client: redis.Redis
) -> None:
    with Service.started(
        base_settings,
        tmp_path_factory.mktemp("stopping"),
        echo_tokens_per_second=PACE,
        drain_seconds=3,
    ) as stopping:
        headers = {"x-api-key": stopping.make_key()["secret"]}
        body = {"prompt": PROMPT, "maxTokens": 150, "ignoreEos": True}  # six seconds
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(
                stopping.call, "POST", "/api/llm/generate", json=body, headers=headers
            )
            time.sleep(1)
            assert stopping.api is not None
            stopping.api.send_signal(signal.SIGTERM)
            answer = waiting.result(20)
            stopping.api.wait(10)
        job_id = answer.json()["id"]
        stopping.api = stopping.spawn("api")
        stopping.wait_ready()

        assert answer.status_code == 202
        assert answer.headers["Location"].endswith(job_id)
        wait_until(lambda: state_of(stopping, headers, job_id) == "succeeded", 20)


def test_a_body_that_trickles_in_is_not_waited_for_longer_than_allowed(
    base_settings: Settings, tmp_path_factory: pytest.TempPathFactory, client: redis.Redis
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
            answer = connection.recv(65536)

        assert b" 408 " in answer.splitlines()[0]
