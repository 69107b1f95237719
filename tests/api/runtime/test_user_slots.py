"""The number of a user's connections that wait or stream is bounded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import requests

from core.config.settings import Settings
from tests.support.http.accounts import register
from tests.support.http.errors import error_of
from tests.support.polling import wait_until
from tests.support.service import Service

MOST = 3
#: A job that runs for more than a minute at the worker's pace.
LONG = {"prompt": "word " * 300, "maxTokens": 300}


@pytest.fixture(scope="module")
def few_slots_service(
    base_settings: Settings, _redis: redis.Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """One API process in which a user may have few waiting connections, and a slow worker."""
    directory = tmp_path_factory.mktemp("narrow")
    changes = {"api_processes": 1, "max_waits_per_user": MOST, "echo_tokens_per_second": 4.0}
    with Service.started(base_settings, directory, **changes) as running:
        yield running


def jobs_of(service: Service, key: dict[str, str]) -> int:
    return len(service.call("GET", "/api/llm/jobs", headers=key).json()["data"])


def test_all_kinds_of_waits_share_one_bound_and_are_refused_before_they_are_charged(
    few_slots_service: Service,
) -> None:
    account = register(few_slots_service)
    key = {"x-api-key": account.make_key()["secret"]}
    job = few_slots_service.call("POST", "/api/llm/jobs", json=LONG, headers=key).json()["id"]
    wait_until(lambda: job_of(few_slots_service, key, job)["status"] == "running", 20)
    closers = [
        in_background("GET", f"{few_slots_service.url}/api/llm/jobs/{job}?wait=60", key),
        in_background("GET", f"{few_slots_service.url}/api/llm/jobs/{job}/stream", key),
        in_background("POST", f"{few_slots_service.url}/api/llm/generate", key, json=LONG),
    ]

    def refused() -> bool:
        response = few_slots_service.call("GET", f"/api/llm/jobs/{job}?wait=1", headers=key)
        return response.status_code == 429 and error_of(response) == "too_many_waits"

    wait_until(refused, 20)
    wait_until(lambda: jobs_of(few_slots_service, key) == 2, 20)
    calls = [
        ("/api/llm/generate", LONG, "too_many_waits"),
        ("/api/llm/generate", {**LONG, "stream": True}, "too_many_streams"),
        ("/v1/completions", {"model": "m", "prompt": "x"}, "too_many_waits"),
        ("/v1/completions", {"model": "m", "prompt": "x", "stream": True}, "too_many_streams"),
    ]
    for path, body, code in calls:
        response = few_slots_service.call("POST", path, json=body, headers=key)
        assert (response.status_code, error_of(response)) == (429, code), path
        assert int(response.headers["Retry-After"]) >= 1
    assert jobs_of(few_slots_service, key) == 2
    prefer = {**key, "Prefer": "respond-async"}
    assert (
        few_slots_service.call("POST", "/api/llm/generate", json=LONG, headers=prefer).status_code
        == 202
    )
    other = {"x-api-key": register(few_slots_service).make_key()["secret"]}
    body = {"prompt": "x", "maxTokens": 3}
    assert (
        few_slots_service.call("POST", "/api/llm/generate", json=body, headers=other).status_code
        == 200
    )

    account.call("DELETE", f"/api/keys/{account.call('GET', '/api/keys').json()['data'][0]['id']}")
    for closer in closers:
        closer.join(20)


def test_a_slot_is_free_after_its_wait(few_slots_service: Service) -> None:
    key = {"x-api-key": register(few_slots_service).make_key()["secret"]}
    short = {"prompt": "x", "maxTokens": 2}

    for _ in range(2 * MOST):
        for body in (short, {**short, "stream": True}):
            response = few_slots_service.call("POST", "/api/llm/generate", json=body, headers=key)
            assert response.status_code == 200, response.text
        missing = few_slots_service.call(
            "POST", "/api/llm/generate", json={"maxTokens": 2}, headers=key
        )
        assert missing.status_code == 400


def job_of(service: Service, key: dict[str, str], job: str) -> dict[str, Any]:
    return dict(service.call("GET", f"/api/llm/jobs/{job}", headers=key).json())


def in_background(method: str, address: str, headers: dict[str, str], **more: Any) -> Any:
    def call() -> None:
        while True:  # its slot may be taken for a moment
            response = requests.request(method, address, headers=headers, timeout=90, **more)
            if response.status_code != 429:
                return

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread
