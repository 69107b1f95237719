"""Each request and each job has one log line, and both lines have the same id."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

from tests.support.http.accounts import register
from tests.support.polling import wait_until
from tests.support.service import Service

BODY = {"prompt": "one two three", "maxTokens": 4}


def lines(service: Service, *, program: str, request_id: str) -> list[dict[str, Any]]:
    """Return a program's log lines about one request; each line is JSON."""
    found = []
    for file in service.directory.glob(f"{program}-*.log"):
        for line in file.read_text().splitlines():
            said = json.loads(line)
            if said["request_id"] == request_id:
                found.append(said)
    return found


def log_lines(
    service: Service, message: str, program: str, request_id: str
) -> list[dict[str, Any]]:
    """Wait for a line with this message, and return all lines with it."""

    def now() -> list[dict[str, Any]]:
        known = lines(service, program=program, request_id=request_id)
        return [line for line in known if line["message"] == message]

    wait_until(now, 20, service.logs)
    return now()


def headers(service: Service, request_id: str) -> dict[str, str]:
    return {"x-api-key": service.make_key()["secret"], "x-request-id": request_id}


def with_worker_stopped(service: Service, act: Callable[[], None]) -> None:
    """Call `act` while the worker is stopped and fetches nothing."""
    service.workers[0].send_signal(signal.SIGSTOP)
    try:
        act()
    finally:
        service.workers[0].send_signal(signal.SIGCONT)


def test_a_request_and_its_job_have_one_line_each(service: Service) -> None:
    mine = headers(service, "logged-1")

    response = service.call("POST", "/api/llm/generate", json=BODY, headers=mine)

    (request,) = log_lines(service, "request", "api", "logged-1")
    (job,) = log_lines(service, "job", "worker", "logged-1")
    assert (request["method"], request["route"]) == ("POST", "/api/llm/generate")
    assert request["status"] == response.status_code == 200
    assert request["ms"] > 0
    assert (request["program"], job["program"]) == ("api", "worker")
    assert response.json()["id"].endswith(job["job"])
    assert (job["state"], job["attempt"]) == ("succeeded", 1)
    assert job["completion_tokens"] == response.json()["usage"]["completion_tokens"]
    assert {"queued_ms", "ran_ms", "prompt_tokens", "key", "time", "level"} <= set(job)


def test_a_refused_request_has_one_line(service: Service) -> None:
    service.call("POST", "/api/llm/generate", json=BODY, headers={"x-request-id": "logged-2"})

    (request,) = log_lines(service, "request", "api", "logged-2")
    assert request["status"] == 401
    assert request["address"] == "127.0.0.1"
    assert "user" not in request and "key" not in request


def test_the_line_of_a_request_names_the_key_or_user(service: Service) -> None:
    key = service.make_key()
    account = register(service)
    by_key = {"x-api-key": key["secret"]}

    def line_of(name: str, call: str, sent: dict[str, str], **options: Any) -> dict[str, Any]:
        method, _, path = call.partition(" ")
        service.call(method, path, headers={**sent, "x-request-id": name}, **options)
        return log_lines(service, "request", "api", name)[0]

    generate = "POST /api/llm/generate"
    lines = [line_of("named-0", generate, by_key, json=BODY)]
    lines += [line_of("named-1", generate, by_key, json={})]
    service.call(
        "PUT", f"/api/keys/{key['id']}", json={"isActive": False}, headers=service.sign_in_admin()
    )
    lines += [line_of("named-2", "GET /v1/models", by_key)]
    by_user = line_of("named-3", "GET /api/admin/overview", account.headers)

    assert [line["status"] for line in lines] == [200, 400, 403]
    assert {line["key"] for line in lines} == {key["id"].removeprefix("key_")}
    assert {line["user"] for line in lines} == {key["userId"].removeprefix("user_")}
    assert {line["address"] for line in [*lines, by_user]} == {"127.0.0.1"}
    assert (by_user["status"], by_user["user"]) == (403, account.id.removeprefix("user_"))
    assert "key" not in by_user


def test_the_line_of_a_job_that_never_ran_has_the_id_of_the_request_that_made_it(
    service: Service,
) -> None:
    mine = headers(service, "logged-3")

    def make_and_cancel() -> None:
        made = service.call("POST", "/api/llm/jobs", json=BODY, headers=mine)
        address = made.headers["Location"]
        service.call("DELETE", address, headers={**mine, "x-request-id": "logged-4"})

    with_worker_stopped(service, make_and_cancel)
    service.call(
        "POST", "/api/llm/generate", json=BODY, headers={**mine, "x-request-id": "logged-5"}
    )

    # The worker has taken the job of the first request before that of the second.
    assert len(log_lines(service, "job", "worker", "logged-5")) == 1
    (job,) = log_lines(service, "job", "api", "logged-3")
    assert job["state"] == "cancelled"
    assert len(log_lines(service, "request", "api", "logged-3")) == 1
    assert len(log_lines(service, "request", "api", "logged-4")) == 1
    assert lines(service, program="worker", request_id="logged-3") == []
