"""Cancelling by DELETE and by disconnecting, before a job begins and while it runs."""

from __future__ import annotations

import itertools
import json
import socket
import time
from typing import Any
from uuid import UUID

import pytest
import redis
from sqlalchemy import select

from core.ids import Prefix, format_id, parse_id
from models.execution.completion import cancel_jobs
from models.jobs.job import Job, JobState
from tests.support.http.jobs import LONG_JOB, state_of, submit, usage_of, wait_for_text
from tests.support.http.sse import events
from tests.support.polling import wait_until
from tests.support.service import Service


@pytest.fixture(scope="module")
def key(slow_service: Service) -> dict[str, Any]:
    return slow_service.make_key()


@pytest.fixture(scope="module")
def headers(key: dict[str, Any]) -> dict[str, str]:
    return {"x-api-key": key["secret"]}


def wait_until_running(service: Service, key: dict[str, Any]) -> None:
    """Wait until a job of the key runs and has text."""

    def running() -> list[UUID]:
        with service.sessions() as session:
            wanted = parse_id(Prefix.KEY, key["id"])
            return list(
                session.scalars(
                    select(Job.id).where(Job.api_key_id == wanted, Job.state == JobState.RUNNING)
                )
            )

    wait_until(running, 20)
    (job_id,) = running()
    wait_for_text(service, {"x-api-key": key["secret"]}, format_id(Prefix.JOB, job_id))


def newest_job(service: Service, key: dict[str, Any]) -> Job:
    with service.sessions() as session:
        wanted = parse_id(Prefix.KEY, key["id"])
        job = session.scalars(
            select(Job).where(Job.api_key_id == wanted).order_by(Job.id.desc()).limit(1)
        ).one()
    return job


def running_in_engine(service: Service) -> int:
    models = service.call("GET", "/api/llm/models", headers=service.sign_in_admin())
    return int(models.json()["data"][0]["running"])


@pytest.mark.alone
def test_a_running_job_is_cancelled_within_a_second_and_charged_for_its_tokens(
    slow_service: Service, headers: dict[str, str]
) -> None:
    job = submit(slow_service, headers)
    wait_for_text(slow_service, headers, job["id"])

    began = time.monotonic()
    response = slow_service.call("DELETE", f"/api/llm/jobs/{job['id']}", headers=headers)
    assert response.status_code == 200
    wait_until(lambda: state_of(slow_service, headers, job["id"]) == "cancelled", 1)
    assert time.monotonic() - began < 1

    ended = slow_service.call("GET", f"/api/llm/jobs/{job['id']}", headers=headers).json()
    used = usage_of(slow_service, job["id"])
    assert used is not None
    assert 0 < used.completion_tokens < 100
    assert ended["usage"]["completion_tokens"] == used.completion_tokens
    assert ended["result"]["choices"][0]["finish_reason"] == "cancelled"
    assert ended["result"]["choices"][0]["text"]
    wait_until(lambda: running_in_engine(slow_service) == 0, 5)


def test_a_worker_finds_a_cancel_whose_event_was_lost(
    slow_service: Service, headers: dict[str, str], redis_client: redis.Redis
) -> None:
    job = submit(slow_service, headers, maxTokens=1000)
    wait_until(lambda: state_of(slow_service, headers, job["id"]) == "running", 20)

    with slow_service.sessions.begin() as session:
        wanted = parse_id(Prefix.JOB, job["id"])
        assert wanted is not None
        assert cancel_jobs(session, [wanted])

    wait_until(lambda: state_of(slow_service, headers, job["id"]) == "cancelled", 20)


def disconnect_while(
    service: Service, key: dict[str, Any], body: dict[str, Any], more: bytes = b""
) -> None:
    """Send a request and `more` over a raw socket, and close it while the job runs."""
    data = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", service.settings.api_port)) as connection:
        connection.sendall(
            b"POST /api/llm/generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"x-api-key: {key['secret']}\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            + data
            + more
        )
        wait_until_running(service, key)


@pytest.mark.alone
@pytest.mark.parametrize("more", [b"", b"\r\n", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_disconnects_cancels_its_job_within_a_second(
    slow_service: Service, key: dict[str, Any], stream: bool, more: bytes
) -> None:
    disconnect_while(slow_service, key, {**LONG_JOB, "stream": stream}, more)
    began = time.monotonic()

    wait_until(lambda: newest_job(slow_service, key).state == "cancelled", 2)
    assert time.monotonic() - began < 1
    job = newest_job(slow_service, key)
    assert 0 < job.completion_tokens < 60


def test_a_follower_that_leaves_cancels_nothing(
    slow_service: Service, headers: dict[str, str], key: dict[str, Any]
) -> None:
    job = submit(slow_service, headers, maxTokens=60)
    response = slow_service.call(
        "GET", f"/api/llm/jobs/{job['id']}/stream", headers=headers, stream=True
    )
    assert len(list(itertools.islice(events(response), 3))) == 3
    response.close()

    wait_until(lambda: state_of(slow_service, headers, job["id"]) == "succeeded", 20)


def test_a_job_with_an_idempotency_key_survives_its_clients_disconnect(
    slow_service: Service, key: dict[str, Any], headers: dict[str, str]
) -> None:
    body = {**LONG_JOB, "maxTokens": 40}
    data = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", slow_service.settings.api_port)) as connection:
        connection.sendall(
            b"POST /api/llm/generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"x-api-key: {key['secret']}\r\nContent-Length: {len(data)}\r\n".encode()
            + b"Idempotency-Key: come-back\r\n\r\n"
            + data
        )
        wait_until_running(slow_service, key)
    time.sleep(0.5)  # the API would have cancelled the job by now

    repeated = slow_service.call(
        "POST",
        "/api/llm/generate",
        json=body,
        headers={**headers, "Idempotency-Key": "come-back"},
    )

    assert repeated.status_code == 200
    assert repeated.headers["Idempotency-Replayed"] == "true"
    assert repeated.json()["usage"]["completion_tokens"] == 40


def half_closed(service: Service, head: str, body: bytes = b"") -> bytes:
    """Send a request, close the sending side, and return the whole response."""
    with socket.create_connection(("127.0.0.1", service.settings.api_port), timeout=60) as link:
        link.sendall(f"{head}\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        link.shutdown(socket.SHUT_WR)
        with link.makefile("rb") as response:
            return response.read()


def final(response: bytes) -> tuple[bytes, bytes]:
    """Return the status line and the rest of a response, without interim responses."""
    while response.startswith(b"HTTP/1.1 100 "):
        response = response.partition(b"\r\n\r\n")[2]
    line, _, rest = response.partition(b"\r\n")
    return line, rest


@pytest.mark.parametrize("path", ["/api/llm/generate", "/v1/completions"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_closes_only_its_sending_side_gets_its_response(
    slow_service: Service, key: dict[str, Any], path: str, stream: bool
) -> None:
    body = {"prompt": "word " * 50, "max_tokens": 40, "ignore_eos": True, "stream": stream}
    head = f"POST {path} HTTP/1.1\r\nContent-Type: application/json\r\nx-api-key: {key['secret']}"

    line, rest = final(half_closed(slow_service, head, json.dumps(body).encode()))

    assert line == b"HTTP/1.1 200 OK"
    assert (b"[DONE]" in rest) == stream
    assert b"client_closed" not in rest
    assert newest_job(slow_service, key).state == "succeeded"


def test_a_poll_of_a_client_that_closes_its_sending_side_waits_as_requested(
    slow_service: Service, key: dict[str, Any], headers: dict[str, str]
) -> None:
    job = submit(slow_service, headers, maxTokens=40)
    wait_until(lambda: state_of(slow_service, headers, job["id"]) == "running", 20)
    path = f"/api/llm/jobs/{job['id']}?wait=30"

    line, rest = final(
        half_closed(slow_service, f"GET {path} HTTP/1.1\r\nx-api-key: {key['secret']}")
    )

    assert line == b"HTTP/1.1 200 OK"
    assert json.loads(rest.partition(b"\r\n\r\n")[2])["status"] == "succeeded"


def test_a_client_of_http_1_0_that_closes_its_sending_side_counts_as_disconnected(
    slow_service: Service, key: dict[str, Any]
) -> None:
    head = "POST /api/llm/generate HTTP/1.0\r\nContent-Type: application/json"
    head += f"\r\nx-api-key: {key['secret']}"
    body = json.dumps({**LONG_JOB, "maxTokens": 1000}).encode()

    line, rest = final(half_closed(slow_service, head, body))

    assert line.split(b" ", 1)[1] == b"499 Client Closed Request"
    error = json.loads(rest.partition(b"\r\n\r\n")[2])["error"]
    assert error["code"] == "client_closed_request"
    wait_until(lambda: newest_job(slow_service, key).state == "cancelled", 20)
