"""The limits as two API processes keep them together, by the clock of their Redis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis
import requests

from core.settings import Settings
from models.api_key import create_key
from models.base import SessionFactory, open_database, sessions
from tests.api.burst import Answer, burst
from tests.minute import minute, wait_for_room
from tests.models.factories import add_user
from tests.service import Service, wait_until

COUNT = 500
#: What a burst may take of its minute.
ROOM_SECONDS = 12.0
#: Takes longer than a burst, at the pace of the fixture's worker.
LONG = {"prompt": "Say it again", "maxTokens": 200, "ignoreEos": True}
SHORT = {"prompt": "Say it", "maxTokens": 1}


@pytest.fixture(scope="module")
def pair(
    base_settings: Settings, _redis: redis.Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Service]]:
    """Two API processes over the same servers, and a slow worker."""
    _redis.flushall()
    slow = {"echo_tokens_per_second": 5.0, "sync_wait_seconds": 5.0, "drain_seconds": 0.0}
    # Other tests use the processor too: 500 requests at once may wait long for a connection.
    both = {"api_processes": 1, "database_timeout_seconds": 30.0}
    directories = [tmp_path_factory.mktemp(name) for name in ("first", "second")]
    with (
        Service.started(base_settings, directories[0], **both, **slow) as first,
        Service.started(base_settings, directories[1], workers=0, **both) as second,
    ):
        wait_until(lambda: answers(second), 30, second.logs)
        yield [first, second]


@pytest.fixture(scope="module")
def rows(base_settings: Settings) -> Iterator[SessionFactory]:
    engine = open_database(base_settings)
    yield sessions(engine)
    engine.dispose()


@pytest.fixture
def make_key(rows: SessionFactory) -> Callable[..., dict[str, str]]:
    """Makes a key with limits; returns the headers that call with it."""

    def make(**limits: int) -> dict[str, str]:
        with rows.begin() as session:
            fields = {"rate_limit": 100_000, **limits}
            owner = add_user(session)
            _, secret = create_key(session, user_id=owner.id, name="limits", **fields)
        return {"x-api-key": secret.text}

    return make


def answers(service: Service) -> bool:
    with suppress(requests.ConnectionError):
        return service.call("GET", "/healthz").status_code == 200
    return False


def fire(
    pair: list[Service], key: dict[str, str], body: dict[str, Any], path: str = "jobs"
) -> list[Answer]:
    """Fire all requests within one minute of the clock."""
    wait_for_room(ROOM_SECONDS)
    began = minute()
    urls = [f"{service.url}/api/llm/{path}" for service in pair]
    given = burst(urls, body, key, count=COUNT)
    assert minute() == began, "the burst was too slow for one minute"
    return given


def tally(given: list[Answer]) -> Counter[str | None]:
    """Count the answers by error code; `None` is accepted."""
    return Counter(answer.code for answer in given)


def test_of_500_at_two_processes_exactly_60_pass_in_each_minute(
    pair: list[Service], make_key: Callable[..., dict[str, str]]
) -> None:
    key = make_key(rate_limit=60)

    first = fire(pair, key, SHORT, "generate")
    refused = next(answer for answer in first if answer.status == 429)
    left = float(refused.headers["retry-after-ms"]) / 1000
    assert 0 < left <= 60
    began = minute()
    wait_until(lambda: minute() > began, 61)
    second = fire(pair, key, SHORT, "generate")

    for given in (first, second):
        assert tally(given) == {None: 60, "rate_limit_exceeded": COUNT - 60}
        remaining = [int(a.headers["x-ratelimit-remaining-requests"]) for a in given]
        assert sorted(remaining, reverse=True)[:60] == list(range(59, -1, -1))


def test_tokens_a_minute_are_as_exact(
    pair: list[Service], make_key: Callable[..., dict[str, str]]
) -> None:
    probe = burst([f"{pair[0].url}/api/llm/jobs"], LONG, make_key(token_limit=10**6), count=1)[0]
    cost = 10**6 - int(probe.headers["x-ratelimit-remaining-tokens"])

    given = fire(pair, make_key(token_limit=7 * cost + cost // 2), LONG)

    assert tally(given) == {None: 7, "token_limit_exceeded": COUNT - 7}


def test_jobs_in_flight_are_as_exact(
    pair: list[Service], make_key: Callable[..., dict[str, str]]
) -> None:
    given = fire(pair, make_key(max_in_flight=10), LONG)

    assert tally(given) == {None: 10, "too_many_in_flight": COUNT - 10}


def test_a_place_in_flight_is_free_when_its_job_has_ended(
    pair: list[Service], make_key: Callable[..., dict[str, str]]
) -> None:
    key = make_key(max_in_flight=1, token_limit=100_000)

    for _ in range(3):
        answer = pair[0].call("POST", "/api/llm/generate", json=SHORT, headers=key)
        assert answer.status_code == 200, answer.text

    shown = pair[1].call("GET", "/api/limits", headers=key).json()
    used = answer.json()["usage"]["total_tokens"]
    assert shown["maxInFlight"]["used"] == 0
    assert shown["monthlyTokenLimit"]["used"] == 3 * used
