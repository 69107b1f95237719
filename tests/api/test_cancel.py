"""Cancelling: by DELETE, by hanging up, before a job begins and while it runs."""

from __future__ import annotations

import itertools
import json
import socket
import time
from typing import Any

import pytest
import redis
from sqlalchemy import select

from core.ids import Prefix, read_id
from models.base import open_database, sessions
from models.job import Job
from models.job_end import cancel_job
from models.usage import Usage
from tests.api.sse import events
from tests.service import Service, wait_until

LONG: dict[str, Any] = {"prompt": "word " * 50, "maxTokens": 400, "ignoreEos": True}


@pytest.fixture(scope="module")
def key(paced: Service) -> dict[str, Any]:
    return paced.make_key()


@pytest.fixture(scope="module")
def headers(key: dict[str, Any]) -> dict[str, str]:
    return {"x-api-key": key["secret"]}


def newest_job(service: Service, key: dict[str, Any]) -> Job:
    engine = open_database(service.settings)
    with sessions(engine)() as session:
        wanted = read_id(Prefix.KEY, key["id"])
        job = session.scalars(
            select(Job).where(Job.api_key_id == wanted).order_by(Job.id.desc()).limit(1)
        ).one()
    engine.dispose()
    return job


def usage_of(service: Service, job_id: str) -> Usage | None:
    engine = open_database(service.settings)
    with sessions(engine)() as session:
        row = session.get(Usage, read_id(Prefix.JOB, job_id))
    engine.dispose()
    return row


def running_in_engine(service: Service) -> int:
    models = service.call("GET", "/api/llm/models", headers=service.sign_in_admin())
    return int(models.json()["data"][0]["running"])


def submit(service: Service, headers: dict[str, str], **body: Any) -> dict[str, Any]:
    answer = service.call("POST", "/api/llm/jobs", json={**LONG, **body}, headers=headers)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def state_of(service: Service, headers: dict[str, str], job_id: str) -> str:
    return str(service.call("GET", f"/api/llm/jobs/{job_id}", headers=headers).json()["status"])


@pytest.mark.alone
def test_a_running_job_is_cancelled_within_a_second_and_pays_for_what_was_made(
    paced: Service, headers: dict[str, str]
) -> None:
    job = submit(paced, headers)
    wait_until(lambda: state_of(paced, headers, job["id"]) == "running", 10)
    time.sleep(0.5)

    began = time.monotonic()
    answer = paced.call("DELETE", f"/api/llm/jobs/{job['id']}", headers=headers)
    assert answer.status_code == 200
    wait_until(lambda: state_of(paced, headers, job["id"]) == "cancelled", 1)
    assert time.monotonic() - began < 1

    ended = paced.call("GET", f"/api/llm/jobs/{job['id']}", headers=headers).json()
    used = usage_of(paced, job["id"])
    assert used is not None
    assert 0 < used.completion_tokens < 100
    assert ended["usage"]["completion_tokens"] == used.completion_tokens
    assert ended["result"]["choices"][0]["finish_reason"] == "cancelled"
    assert ended["result"]["choices"][0]["text"]
    wait_until(lambda: running_in_engine(paced) == 0, 5)


def test_a_cancel_whose_news_is_lost_is_seen_in_the_row(
    paced: Service, headers: dict[str, str], client: redis.Redis
) -> None:
    job = submit(paced, headers, maxTokens=1000)
    wait_until(lambda: state_of(paced, headers, job["id"]) == "running", 20)

    engine = open_database(paced.settings)
    with sessions(engine).begin() as session:
        wanted = read_id(Prefix.JOB, job["id"])
        assert wanted is not None
        assert cancel_job(session, wanted) is not None
    engine.dispose()

    wait_until(lambda: state_of(paced, headers, job["id"]) == "cancelled", 20)


def hang_up_while(
    service: Service, key: dict[str, Any], body: dict[str, Any], more: bytes = b""
) -> None:
    """Send a request, and `more`, over a connection of our own, and close it a moment later."""
    data = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", service.settings.api_port)) as connection:
        connection.sendall(
            b"POST /api/llm/generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"x-api-key: {key['secret']}\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            + data
            + more
        )
        time.sleep(0.8)


@pytest.mark.alone
@pytest.mark.parametrize("more", [b"", b"\r\n", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_cancels_its_own_request_within_a_second(
    paced: Service, key: dict[str, Any], stream: bool, more: bytes
) -> None:
    hang_up_while(paced, key, {**LONG, "stream": stream}, more)
    began = time.monotonic()

    wait_until(lambda: newest_job(paced, key).state == "cancelled", 2)
    assert time.monotonic() - began < 1
    job = newest_job(paced, key)
    assert 0 < job.completion_tokens < 60


def test_a_follower_that_leaves_cancels_nothing(
    paced: Service, headers: dict[str, str], key: dict[str, Any]
) -> None:
    job = submit(paced, headers, maxTokens=60)
    answer = paced.call("GET", f"/api/llm/jobs/{job['id']}/stream", headers=headers, stream=True)
    assert len(list(itertools.islice(events(answer), 3))) == 3
    answer.close()

    wait_until(lambda: state_of(paced, headers, job["id"]) == "succeeded", 20)


def test_with_an_idempotency_key_the_client_may_come_back(
    paced: Service, key: dict[str, Any], headers: dict[str, str]
) -> None:
    body = {**LONG, "maxTokens": 40}
    data = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", paced.settings.api_port)) as connection:
        connection.sendall(
            b"POST /api/llm/generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"x-api-key: {key['secret']}\r\nContent-Length: {len(data)}\r\n".encode()
            + b"Idempotency-Key: come-back\r\n\r\n"
            + data
        )
        time.sleep(0.5)
    time.sleep(0.5)

    again = paced.call(
        "POST",
        "/api/llm/generate",
        json=body,
        headers={**headers, "Idempotency-Key": "come-back"},
    )

    assert again.status_code == 200
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json()["usage"]["completion_tokens"] == 40


def half_closed(service: Service, head: str, body: bytes = b"") -> bytes:
    """Send a request, close our sending side, and return all that is answered."""
    with socket.create_connection(("127.0.0.1", service.settings.api_port), timeout=60) as link:
        link.sendall(f"{head}\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        link.shutdown(socket.SHUT_WR)
        with link.makefile("rb") as answer:
            return answer.read()


def final(answer: bytes) -> tuple[bytes, bytes]:
    """Return the status line and the rest of an answer, without interim ones before it."""
    while answer.startswith(b"HTTP/1.1 100 "):
        answer = answer.partition(b"\r\n\r\n")[2]
    line, _, rest = answer.partition(b"\r\n")
    return line, rest


@pytest.mark.parametrize("path", ["/api/llm/generate", "/v1/completions"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_closes_its_sending_side_alone_gets_its_answer(
    paced: Service, key: dict[str, Any], path: str, stream: bool
) -> None:
    body = {"prompt": "word " * 50, "max_tokens": 40, "ignore_eos": True, "stream": stream}
    head = f"POST {path} HTTP/1.1\r\nContent-Type: application/json\r\nx-api-key: {key['secret']}"

    line, rest = final(half_closed(paced, head, json.dumps(body).encode()))

    assert line == b"HTTP/1.1 200 OK"
    assert (b"[DONE]" in rest) == stream
    assert b"client_closed" not in rest
    assert newest_job(paced, key).state == "succeeded"


def test_a_look_of_a_client_that_closes_its_sending_side_waits_as_it_asked(
    paced: Service, key: dict[str, Any], headers: dict[str, str]
) -> None:
    job = submit(paced, headers, maxTokens=40)
    wait_until(lambda: state_of(paced, headers, job["id"]) == "running", 20)
    path = f"/api/llm/jobs/{job['id']}?wait=30"

    line, rest = final(half_closed(paced, f"GET {path} HTTP/1.1\r\nx-api-key: {key['secret']}"))

    assert line == b"HTTP/1.1 200 OK"
    assert json.loads(rest.partition(b"\r\n\r\n")[2])["status"] == "succeeded"


def test_a_client_of_http_1_0_that_closes_its_sending_side_is_taken_for_gone(
    paced: Service, key: dict[str, Any]
) -> None:
    head = "POST /api/llm/generate HTTP/1.0\r\nContent-Type: application/json"
    head += f"\r\nx-api-key: {key['secret']}"
    body = json.dumps({**LONG, "maxTokens": 1000}).encode()

    line, rest = final(half_closed(paced, head, body))

    assert line.split(b" ", 1)[1] == b"499 Client Closed Request"
    error = json.loads(rest.partition(b"\r\n\r\n")[2])["error"]
    assert error["code"] == "client_closed_request"
    wait_until(lambda: newest_job(paced, key).state == "cancelled", 20)
