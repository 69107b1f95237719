"""A large request takes turns with others, stops nobody, and is paid for when it is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import requests

from api.large_requests import (
    LARGE_BYTES,
    MAX_REST_SECONDS,
    MOST_OF_A_USER,
    MOST_WAITING,
    LargeRequests,
)
from core.errors import Unavailable
from core.settings import Settings
from tests.core.limit_key import Clock
from tests.minute import wait_for_room
from tests.service import Service, wait_until

#: What may stand in a body of two megabytes; counting the last takes longest.
PROMPTS = {
    "too long for any tokens": "aA1 " * 500_000,
    "many tokens": "aA1 " * 160_000,
    "one word": "x" * 640_000,
    "few tokens": " " * 640_000,
    "control tokens": "<|im_end|>" * 64_000,
}


@pytest.fixture(scope="module")
def single(base_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose API is one process: whatever holds it up holds up everything."""
    directory = tmp_path_factory.mktemp("single")
    with Service.started(base_settings, directory, api_processes=1) as service:
        yield service


def generate(service: Service, key: dict[str, Any], **body: Any) -> requests.Response:
    headers = {"x-api-key": key["secret"]}
    return service.call("POST", "/api/llm/generate", json=body, headers=headers)


def requests_used(service: Service, key: dict[str, Any]) -> int:
    answer = service.call("GET", "/api/limits", headers={"x-api-key": key["secret"]})
    return int(answer.json()["rateLimit"]["used"])


@pytest.mark.alone
@pytest.mark.parametrize("name", PROMPTS)
def test_others_are_answered_while_a_large_prompt_is_read(single: Service, name: str) -> None:
    key = single.make_key()
    sender = threading.Thread(
        target=generate, args=(single, key), kwargs={"prompt": PROMPTS[name], "maxTokens": 8000}
    )
    waited = []

    with requests.Session() as session:
        session.get(f"{single.url}/healthz", timeout=30)
        sender.start()
        while sender.is_alive():
            began = time.perf_counter()
            session.get(f"{single.url}/healthz", timeout=30)
            waited.append(time.perf_counter() - began)
            time.sleep(0.002)

    assert max(waited) < 0.2


@pytest.mark.parametrize("name", PROMPTS)
def test_a_large_prompt_that_cannot_fit_is_refused_with_what_was_counted(
    single: Service, name: str
) -> None:
    answer = generate(single, single.make_key(), prompt=PROMPTS[name], maxTokens=8000)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "context_length_exceeded")
    assert error["message"].startswith("this model's maximum context length is 8192 tokens, but ")
    assert error["param"] == "prompt"


def test_a_long_prompt_that_is_refused_takes_a_request_of_its_key(single: Service) -> None:
    key = single.make_key(rateLimit=2)
    wait_for_room(20)

    refused = [generate(single, key, prompt="aA1 " * 20_000) for _ in range(3)]

    assert [answer.status_code for answer in refused] == [400, 400, 429]
    assert refused[2].json()["error"]["code"] == "rate_limit_exceeded"
    assert requests_used(single, key) == 2
    assert generate(single, key, prompt="x").status_code == 429


def test_a_short_request_that_is_refused_costs_nothing(single: Service) -> None:
    key = single.make_key()

    assert generate(single, key, prompt="x", maxTokens=8192).status_code == 400
    assert generate(single, key, prompt="x", maxTokens=0).status_code == 400
    assert requests_used(single, key) == 0


def test_a_long_prompt_that_fits_takes_one_request(single: Service) -> None:
    key = single.make_key()
    wait_for_room(20)

    answer = generate(single, key, prompt=" " * (LARGE_BYTES + 1), maxTokens=1)

    assert answer.status_code == 200
    assert requests_used(single, key) == 1


@pytest.fixture
def turns() -> LargeRequests:
    return LargeRequests(max_wait_seconds=20.0, sleep=lambda seconds: None)


def wait_behind(turns: LargeRequests, order: list[str], name: str, user: Any) -> threading.Thread:
    """Wait for a turn in another thread, which ends it at once and notes its name."""
    before = turns._count()

    def take() -> None:
        end = turns.take_turn(user, 0)
        order.append(name)
        end()

    thread = threading.Thread(target=take)
    thread.start()
    wait_until(lambda: turns._count() > before, 10)
    return thread


def test_users_take_turns_however_many_requests_one_has(turns: LargeRequests) -> None:
    many, few = uuid4(), uuid4()
    order: list[str] = []
    end = turns.take_turn(many, 0)

    waiting = [wait_behind(turns, order, f"many {i}", many) for i in range(3)]
    waiting.append(wait_behind(turns, order, "few", few))
    end()
    for thread in waiting:
        thread.join(20)

    assert order == ["many 0", "few", "many 1", "many 2"]


def test_who_waits_too_long_is_refused_and_holds_up_nobody() -> None:
    turns = LargeRequests(max_wait_seconds=0.05, sleep=lambda seconds: None)
    end = turns.take_turn(uuid4(), 0)

    with pytest.raises(Unavailable, match="wait too long") as told:
        turns.take_turn(uuid4(), 0)
    end()

    assert told.value.code == "overloaded" and "Retry-After" in told.value.headers
    turns.take_turn(uuid4(), 0)()


@pytest.mark.parametrize(("users", "most"), [(1, MOST_OF_A_USER), (64, MOST_WAITING)])
def test_no_more_than_so_many_wait(turns: LargeRequests, users: int, most: int) -> None:
    names = [uuid4() for _ in range(users)]
    end = turns.take_turn(uuid4(), 0)
    waiting = [wait_behind(turns, [], "", names[i % users]) for i in range(most)]

    with pytest.raises(Unavailable, match="too many large requests wait"):
        turns.take_turn(names[0], 0)
    end()
    for thread in waiting:
        thread.join(20)

    turns.take_turn(names[0], 0)()


@pytest.mark.parametrize(("seconds", "rest"), [(0.01, 0.03), (5.0, MAX_REST_SECONDS)])
def test_the_process_works_for_others_after_each(seconds: float, rest: float) -> None:
    clock = Clock()
    slept: list[float] = []
    turns = LargeRequests(clock=clock, sleep=slept.append)
    end = turns.take_turn(uuid4(), 0)
    clock.now += seconds

    end()
    turns.take_turn(uuid4(), 0)

    assert slept == [0.0, pytest.approx(rest)]
