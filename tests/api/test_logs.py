"""The log: one line a request, one line a job, and the same id in both."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

from tests.api.accounts import register
from tests.service import Service, wait_until

BODY = {"prompt": "one two three", "maxTokens": 4}


def lines(service: Service, *, program: str, request_id: str) -> list[dict[str, Any]]:
    """Return the log's lines of a program about one request; each line is JSON."""
    found = []
    for file in service.directory.glob(f"{program}-*.log"):
        for line in file.read_text().splitlines():
            said = json.loads(line)
            if said["request_id"] == request_id:
                found.append(said)
    return found


def told(service: Service, message: str, program: str, request_id: str) -> list[dict[str, Any]]:
    """Return the lines with this message, once there is one."""

    def now() -> list[dict[str, Any]]:
        known = lines(service, program=program, request_id=request_id)
        return [line for line in known if line["message"] == message]

    wait_until(now, 20, service.logs)
    return now()


def headers(service: Service, request_id: str) -> dict[str, str]:
    return {"x-api-key": service.make_key()["secret"], "x-request-id": request_id}


def with_worker_stopped(service: Service, act: Callable[[], None]) -> None:
    """Act while the worker takes nothing."""
    service.workers[0].send_signal(signal.SIGSTOP)
    try:
        act()
    finally:
        service.workers[0].send_signal(signal.SIGCONT)


def test_a_request_and_its_job_have_one_line_each(service: Service) -> None:
    mine = headers(service, "logged-1")

    answer = service.call("POST", "/api/llm/generate", json=BODY, headers=mine)

    (request,) = told(service, "request", "api", "logged-1")
    (job,) = told(service, "job", "worker", "logged-1")
    assert (request["method"], request["route"]) == ("POST", "/api/llm/generate")
    assert request["status"] == answer.status_code == 200
    assert request["ms"] > 0
    assert (request["program"], job["program"]) == ("api", "worker")
    assert answer.json()["id"].endswith(job["job"])
    assert (job["state"], job["attempt"]) == ("succeeded", 1)
    assert job["completion_tokens"] == answer.json()["usage"]["completion_tokens"]
    assert {"queued_ms", "ran_ms", "prompt_tokens", "key", "time", "level"} <= set(job)


def test_a_refused_request_has_one_line(service: Service) -> None:
    service.call("POST", "/api/llm/generate", json=BODY, headers={"x-request-id": "logged-2"})

    (request,) = told(service, "request", "api", "logged-2")
    assert request["status"] == 401
    assert request["address"] == "127.0.0.1"
    assert "user" not in request and "key" not in request


def test_the_line_of_a_request_names_who_called(service: Service) -> None:
    key = service.make_key()
    account = register(service)
    by_key = {"x-api-key": key["secret"]}

    def line_of(name: str, call: str, sent: dict[str, str], **options: Any) -> dict[str, Any]:
        method, _, path = call.partition(" ")
        service.call(method, path, headers={**sent, "x-request-id": name}, **options)
        return told(service, "request", "api", name)[0]

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


def test_a_job_that_never_ran_has_its_line_under_the_request_that_made_it(
    service: Service,
) -> None:
    mine = headers(service, "logged-3")

    def make_and_cancel() -> None:
        made = service.call("POST", "/api/llm/jobs", json=BODY, headers=mine)
        address = made.headers["Location"]
        service.call("DELETE", address, headers={**mine, "x-request-id": "logged-4"})

    with_worker_stopped(service, make_and_cancel)

    (job,) = told(service, "job", "api", "logged-3")
    assert job["state"] == "cancelled"
    assert len(told(service, "request", "api", "logged-3")) == 1
    assert len(told(service, "request", "api", "logged-4")) == 1
    assert lines(service, program="worker", request_id="logged-3") == []
