"""Large requests run one at a time, delay no small request, and cost also when refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import requests

from api.runtime.large_requests import (
    LARGE_BYTES,
    MAX_PAUSE_SECONDS,
    MAX_WAITING,
    MAX_WAITING_PER_USER,
    LargeRequestLock,
)
from core.config.settings import Settings
from core.errors import Unavailable
from tests.support.factories.limit_key import Clock
from tests.support.minute import wait_for_room
from tests.support.polling import wait_until
from tests.support.service import Service

#: Prompts of two megabytes; counting the tokens of the last takes longest.
PROMPTS = {
    "too long for any tokens": "aA1 " * 500_000,
    "many tokens": "aA1 " * 160_000,
    "one word": "x" * 640_000,
    "few tokens": " " * 640_000,
    "control tokens": "<|im_end|>" * 64_000,
}


@pytest.fixture(scope="module")
def single_process_service(
    base_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service whose API is one process, so that a blocked process blocks all requests."""
    directory = tmp_path_factory.mktemp("single")
    with Service.started(base_settings, directory, api_processes=1) as service:
        yield service


def generate(service: Service, key: dict[str, Any], **body: Any) -> requests.Response:
    headers = {"x-api-key": key["secret"]}
    return service.call("POST", "/api/llm/generate", json=body, headers=headers)


def requests_used(service: Service, key: dict[str, Any]) -> int:
    response = service.call("GET", "/api/limits", headers={"x-api-key": key["secret"]})
    return int(response.json()["rateLimit"]["used"])


@pytest.mark.alone
@pytest.mark.parametrize("name", PROMPTS)
def test_other_requests_run_while_a_large_prompt_is_parsed(
    single_process_service: Service, name: str
) -> None:
    key = single_process_service.make_key()
    sender = threading.Thread(
        target=generate,
        args=(single_process_service, key),
        kwargs={"prompt": PROMPTS[name], "maxTokens": 8000},
    )
    waited = []

    with requests.Session() as session:
        session.get(f"{single_process_service.url}/healthz", timeout=30)
        sender.start()
        while sender.is_alive():
            began = time.perf_counter()
            session.get(f"{single_process_service.url}/healthz", timeout=30)
            waited.append(time.perf_counter() - began)
            time.sleep(0.002)

    assert max(waited) < 0.2


@pytest.mark.parametrize("name", PROMPTS)
def test_the_error_for_a_large_prompt_has_the_number_of_counted_tokens(
    single_process_service: Service, name: str
) -> None:
    response = generate(
        single_process_service,
        single_process_service.make_key(),
        prompt=PROMPTS[name],
        maxTokens=8000,
    )

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "context_length_exceeded")
    assert error["message"].startswith("this model's maximum context length is 8192 tokens, but ")
    assert error["param"] == "prompt"


def test_a_long_prompt_that_is_refused_takes_a_request_of_its_key(
    single_process_service: Service,
) -> None:
    key = single_process_service.make_key(rateLimit=2)
    wait_for_room(20)

    refused = [generate(single_process_service, key, prompt="aA1 " * 20_000) for _ in range(3)]

    assert [response.status_code for response in refused] == [400, 400, 429]
    assert refused[2].json()["error"]["code"] == "rate_limit_exceeded"
    assert requests_used(single_process_service, key) == 2
    assert generate(single_process_service, key, prompt="x").status_code == 429


def test_a_short_request_that_is_refused_costs_nothing(single_process_service: Service) -> None:
    key = single_process_service.make_key()

    assert generate(single_process_service, key, prompt="x", maxTokens=8192).status_code == 400
    assert generate(single_process_service, key, prompt="x", maxTokens=0).status_code == 400
    assert requests_used(single_process_service, key) == 0


def test_a_long_prompt_that_fits_takes_one_request(single_process_service: Service) -> None:
    key = single_process_service.make_key()
    wait_for_room(20)

    response = generate(single_process_service, key, prompt=" " * (LARGE_BYTES + 1), maxTokens=1)

    assert response.status_code == 200
    assert requests_used(single_process_service, key) == 1


@pytest.fixture
def lock() -> LargeRequestLock:
    return LargeRequestLock(max_wait_seconds=20.0, sleep=lambda seconds: None)


def wait_behind(lock: LargeRequestLock, order: list[str], name: str, user: Any) -> threading.Thread:
    """Acquire the lock in another thread, which records its name and releases the lock."""
    before = lock._count()

    def take() -> None:
        end = lock.acquire(user, 0)
        order.append(name)
        end()

    thread = threading.Thread(target=take)
    thread.start()
    wait_until(lambda: lock._count() > before, 10)
    return thread


def test_the_lock_is_fair_to_users_with_few_requests(lock: LargeRequestLock) -> None:
    many, few = uuid4(), uuid4()
    order: list[str] = []
    end = lock.acquire(many, 0)

    waiting = [wait_behind(lock, order, f"many {i}", many) for i in range(3)]
    waiting.append(wait_behind(lock, order, "few", few))
    end()
    for thread in waiting:
        thread.join(20)

    assert order == ["many 0", "few", "many 1", "many 2"]


def test_a_request_that_waits_too_long_is_refused_and_blocks_no_other() -> None:
    lock = LargeRequestLock(max_wait_seconds=0.05, sleep=lambda seconds: None)
    end = lock.acquire(uuid4(), 0)

    with pytest.raises(Unavailable, match="wait too long") as raised:
        lock.acquire(uuid4(), 0)
    end()

    assert raised.value.code == "overloaded" and "Retry-After" in raised.value.headers
    lock.acquire(uuid4(), 0)()


@pytest.mark.parametrize(("users", "most"), [(1, MAX_WAITING_PER_USER), (64, MAX_WAITING)])
def test_the_number_of_waiting_requests_is_bounded(
    lock: LargeRequestLock, users: int, most: int
) -> None:
    names = [uuid4() for _ in range(users)]
    end = lock.acquire(uuid4(), 0)
    waiting = [wait_behind(lock, [], "", names[i % users]) for i in range(most)]

    with pytest.raises(Unavailable, match="too many large requests wait"):
        lock.acquire(names[0], 0)
    end()
    for thread in waiting:
        thread.join(20)

    lock.acquire(names[0], 0)()


@pytest.mark.parametrize(("seconds", "rest"), [(0.01, 0.03), (5.0, MAX_PAUSE_SECONDS)])
def test_the_process_pauses_for_other_requests_after_each_large_one(
    seconds: float, rest: float
) -> None:
    clock = Clock()
    slept: list[float] = []
    lock = LargeRequestLock(clock=clock, sleep=slept.append)
    end = lock.acquire(uuid4(), 0)
    clock.now += seconds

    end()
    lock.acquire(uuid4(), 0)

    assert slept == [0.0, pytest.approx(rest)]
