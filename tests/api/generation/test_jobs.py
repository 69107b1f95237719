"""Asynchronous jobs: submitting, polling, listing and waiting."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests

from tests.support.http.errors import error_of
from tests.support.polling import wait_until
from tests.support.service import Service


@pytest.fixture(scope="module")
def headers(service: Service) -> dict[str, str]:
    return {"x-api-key": service.make_key()["secret"]}


def submit(service: Service, headers: dict[str, str], **body: Any) -> requests.Response:
    return service.call("POST", "/api/llm/jobs", json={"prompt": "hello", **body}, headers=headers)


def finished(service: Service, headers: dict[str, str], location: str) -> dict[str, Any]:
    response = service.call("GET", f"{location}?wait=20", headers=headers)
    wait_until(
        lambda: service.call("GET", location, headers=headers).json()["finishedAt"] is not None, 20
    )
    assert response.status_code == 200
    return dict(service.call("GET", location, headers=headers).json())


def test_a_job_is_accepted_at_once_and_its_address_has_the_result(
    service: Service, headers: dict[str, str]
) -> None:
    response = submit(service, headers, metadata={"ticket": "42"})

    assert response.status_code == 202
    assert response.json()["status"] == "queued"
    assert response.headers["Location"] == f"/api/llm/jobs/{response.json()['id']}"
    job = finished(service, headers, response.headers["Location"])
    assert job["status"] == "succeeded"
    assert job["metadata"] == {"ticket": "42"}
    assert "hello" in job["result"]["choices"][0]["text"]
    assert job["usage"] == job["result"]["usage"]
    assert job["createdAt"] <= job["startedAt"] <= job["firstTokenAt"] <= job["finishedAt"]


@pytest.mark.parametrize(
    "prefer", ["respond-async", "respond-async, wait=10", "wait=10,respond-async"]
)
def test_a_caller_may_prefer_not_to_wait(
    service: Service, headers: dict[str, str], prefer: str
) -> None:
    response = service.call(
        "POST", "/api/llm/generate", json={"prompt": "x"}, headers={**headers, "Prefer": prefer}
    )

    assert response.status_code == 202
    assert response.headers["Preference-Applied"] == "respond-async"
    assert finished(service, headers, response.headers["Location"])["status"] == "succeeded"


def test_a_malformed_preference_is_ignored(service: Service, headers: dict[str, str]) -> None:
    response = service.call(
        "POST",
        "/api/llm/generate",
        json={"prompt": "x"},
        headers={**headers, "Prefer": "wait=soon, handling=lenient"},
    )

    assert response.status_code == 200


def test_jobs_are_listed_newest_first_by_pages_and_by_state(service: Service) -> None:
    headers = {"x-api-key": service.make_key()["secret"]}
    made = [submit(service, headers, prompt=f"p{i}").json()["id"] for i in range(5)]

    first = service.call("GET", "/api/llm/jobs?limit=3", headers=headers).json()
    rest = service.call(
        "GET", f"/api/llm/jobs?limit=2&after={first['nextCursor']}", headers=headers
    ).json()

    assert [job["id"] for job in [*first["data"], *rest["data"]]] == made[::-1]
    assert all("result" not in job for job in first["data"])
    listed = service.call("GET", "/api/llm/jobs?status=failed", headers=headers).json()
    assert all(job["status"] == "failed" for job in listed["data"])
    response = service.call("GET", "/api/llm/jobs?status=lost", headers=headers)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "status")


def test_another_users_job_is_not_found(service: Service, headers: dict[str, str]) -> None:
    job = submit(service, headers).json()
    admin = service.sign_in_admin()
    email = f"other-{time.monotonic_ns()}@example.com"
    made = service.call(
        "POST",
        "/api/users",
        json={"email": email, "name": "Other", "password": "long enough"},
        headers=admin,
    )
    assert made.status_code == 201, made.text
    other = service.sign_in(email, "long enough")

    for method, path in [("GET", ""), ("GET", "/stream"), ("DELETE", "")]:
        response = service.call(method, f"/api/llm/jobs/{job['id']}{path}", headers=other)
        assert (response.status_code, error_of(response)) == (404, "not_found")
    listed = service.call("GET", "/api/llm/jobs", headers=other).json()
    assert listed == {"data": [], "nextCursor": None}


@pytest.mark.parametrize("job_id", ["gen_1", "x", "gen_" + "0" * 32, "key_" + "0" * 32, "%00"])
def test_a_malformed_id_is_not_found(
    service: Service, headers: dict[str, str], job_id: str
) -> None:
    assert service.call("GET", f"/api/llm/jobs/{job_id}", headers=headers).status_code == 404


def test_a_repeated_idempotency_key_returns_the_same_job_and_costs_nothing(
    service: Service,
) -> None:
    headers = {"x-api-key": service.make_key(rateLimit=50)["secret"], "Idempotency-Key": "a-1"}

    first = submit(service, headers, maxTokens=20)
    repeated = submit(service, headers, maxTokens=20)
    after = service.call(
        "POST",
        "/api/llm/generate",
        json={"prompt": "count"},
        headers={"x-api-key": headers["x-api-key"]},
    )

    assert repeated.json()["id"] == first.json()["id"]
    assert "Idempotency-Replayed" not in first.headers
    assert repeated.headers["Idempotency-Replayed"] == "true"
    assert after.headers["x-ratelimit-remaining-requests"] in {"48", "49"}  # the minute may end
    conflict = submit(service, headers, maxTokens=21)
    assert (conflict.status_code, error_of(conflict)) == (422, "idempotency_conflict")


def test_an_idempotency_key_belongs_to_its_api_key(service: Service) -> None:
    one, other = service.make_key()["secret"], service.make_key()["secret"]

    jobs = {
        submit(service, {"x-api-key": secret, "Idempotency-Key": "shared"}).json()["id"]
        for secret in (one, other)
    }

    assert len(jobs) == 2


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256])
def test_a_malformed_idempotency_key_is_refused(
    service: Service, headers: dict[str, str], key: str
) -> None:
    response = submit(service, {**headers, "Idempotency-Key": key.encode()})  # type: ignore[dict-item]

    assert (response.status_code, error_of(response)) == (400, "invalid_request")


def test_a_repeated_deterministic_request_gets_the_cached_completion(service: Service) -> None:
    headers = {"x-api-key": service.make_key()["secret"]}
    body = {"prompt": f"cache me {time.monotonic_ns()}", "temperature": 0, "cache": True}

    def ask(**changes: Any) -> requests.Response:
        return service.call("POST", "/api/llm/generate", json={**body, **changes}, headers=headers)

    first, repeated = ask(), ask()

    assert "cached" not in first.json()
    assert repeated.json()["cached"] is True
    assert repeated.headers["x-cache"] == "hit"
    assert repeated.json()["choices"] == first.json()["choices"]
    assert repeated.json()["id"] != first.json()["id"]
    usage, saved = repeated.json()["usage"], first.json()["usage"]["total_tokens"]
    assert (usage["total_tokens"], usage["cached_tokens"]) == (0, saved)
    for changes in ({"cache": False}, {"maxTokens": 3}, {"temperature": 0.5}):
        assert "cached" not in ask(**changes).json()
    other = {"x-api-key": _other_users_key(service)}
    response = service.call("POST", "/api/llm/generate", json=body, headers=other)
    assert "cached" not in response.json()


def test_a_stream_takes_a_cached_completion_only_on_request(service: Service) -> None:
    headers = {"x-api-key": service.make_key()["secret"]}
    body = {"prompt": f"stream me {time.monotonic_ns()}", "temperature": 0, "cache": True}
    first = service.call("POST", "/api/llm/generate", json=body, headers=headers).json()

    streamed = service.call(
        "POST", "/api/llm/generate", json={**body, "stream": True}, headers=headers
    )

    assert streamed.headers["x-cache"] == "hit"
    assert first["choices"][0]["text"].splitlines()[0] in streamed.text


def _other_users_key(service: Service) -> str:
    admin = service.sign_in_admin()
    email = f"cache-{time.monotonic_ns()}@example.com"
    made = service.call(
        "POST",
        "/api/users",
        json={"email": email, "name": "Other", "password": "long enough"},
        headers=admin,
    )
    other = service.sign_in(email, "long enough")
    assert made.status_code == 201
    key = service.call("POST", "/api/keys", json={"name": "k"}, headers=other)
    return str(key.json()["secret"])


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/hook",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/hook",
        "https://[::ffff:127.0.0.1]/hook",
        "https://2130706433/hook",
        "https://0x7f.1/hook",
        "https://user:secret@example.com/hook",
        "https://example.com:22/hook",
        "ftp://example.com/hook",
        "file:///etc/passwd",
        "not a url",
    ],
)
def test_a_webhook_to_a_forbidden_address_is_refused(
    service: Service, headers: dict[str, str], url: str
) -> None:
    response = submit(service, headers, webhookUrl=url)

    assert (response.status_code, response.json()["error"]["param"]) == (400, "webhookUrl"), (
        response.text
    )


def test_a_result_that_would_be_too_large_is_refused(
    service: Service, headers: dict[str, str]
) -> None:
    response = submit(service, headers, n=8, maxTokens=4000, logprobs=20)

    assert (response.status_code, response.json()["error"]["param"]) == (400, "logprobs")
