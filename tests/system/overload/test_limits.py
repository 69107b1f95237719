"""Two API processes enforce the limits together, by the clock of their Redis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from sqlalchemy import update

from core.config.settings import Settings
from models.accounts.api_key import LAST_USED_RESOLUTION, ApiKey, create_key
from models.database.base import SessionFactory, database_now
from tests.support.factories.rows import add_user
from tests.support.http.load_burst import BurstResponse, burst
from tests.support.minute import minute, wait_for_room
from tests.support.polling import wait_until
from tests.support.service import Service

COUNT = 500
#: Seconds that a burst may take; it must end within one minute of the clock.
BURST_SECONDS = 20.0
#: A job that runs longer than a burst at the pace of the slow worker.
LONG = {"prompt": "Say it again", "maxTokens": 200, "ignoreEos": True}
SHORT = {"prompt": "Say it", "maxTokens": 1}


@pytest.fixture(scope="module")
def two_services(
    base_settings: Settings, _redis: redis.Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Service]]:
    """Two services of one API process each over the same servers, and a slow worker."""
    _redis.flushall()
    slow = {"echo_tokens_per_second": 5.0, "sync_wait_seconds": 5.0, "drain_seconds": 0.0}
    # Other tests use the processor too: 500 requests at once may wait long for a connection.
    both = {"api_processes": 1, "database_timeout_seconds": 30.0}
    directories = [tmp_path_factory.mktemp(name) for name in ("first", "second")]
    with (
        Service.started(base_settings, directories[0], **both, **slow) as first,
        Service.started(base_settings, directories[1], workers=0, **both) as second,
    ):
        wait_until(second.responds, 30, second.logs)
        yield [first, second]


@pytest.fixture(scope="module")
def rows(two_services: list[Service]) -> SessionFactory:
    return two_services[0].sessions


@pytest.fixture
def make_key(rows: SessionFactory) -> Callable[..., dict[str, str]]:
    """Create a key with limits; return the headers of its calls."""

    def make(**limits: int) -> dict[str, str]:
        with rows.begin() as session:
            fields = {"rate_limit": 100_000, **limits}
            owner = add_user(session)
            _, secret = create_key(session, user_id=owner.id, name="limits", **fields)
        return {"x-api-key": secret.text}

    return make


def fire(
    two_services: list[Service], key: dict[str, str], body: dict[str, Any], path: str = "jobs"
) -> list[BurstResponse]:
    """Send all requests within one minute of the clock."""
    wait_for_room(BURST_SECONDS)
    began = minute()
    urls = [f"{service.url}/api/llm/{path}" for service in two_services]
    given = burst(urls, body, key, count=COUNT)
    assert minute() == began, "the burst was too slow for one minute"
    return given


def tally(given: list[BurstResponse]) -> Counter[str | None]:
    """Count the responses by error code; `None` means accepted."""
    return Counter(response.code for response in given)


def make_record_of_use_due(rows: SessionFactory) -> None:
    """Let the next use of all keys be recorded in half a second, in the middle of a burst."""
    with rows.begin() as session:
        nearly = database_now(session) - LAST_USED_RESOLUTION + timedelta(seconds=0.5)
        session.execute(update(ApiKey).values(last_used_at=nearly))


def test_of_500_at_two_processes_exactly_60_pass_in_each_minute(
    two_services: list[Service], make_key: Callable[..., dict[str, str]]
) -> None:
    key = make_key(rate_limit=60)

    wait_for_room(BURST_SECONDS)
    make_record_of_use_due(two_services[0].sessions)
    first = fire(two_services, key, SHORT, "generate")
    refused = next(response for response in first if response.status == 429)
    left = float(refused.headers["retry-after-ms"]) / 1000
    assert 0 < left <= 60
    began = minute()
    wait_until(lambda: minute() > began, 61)
    second = fire(two_services, key, SHORT, "generate")

    for given in (first, second):
        assert tally(given) == {None: 60, "rate_limit_exceeded": COUNT - 60}
        remaining = [int(a.headers["x-ratelimit-remaining-requests"]) for a in given]
        assert sorted(remaining, reverse=True)[:60] == list(range(59, -1, -1))


def test_the_limit_of_tokens_a_minute_is_exact_over_two_processes(
    two_services: list[Service], make_key: Callable[..., dict[str, str]]
) -> None:
    probe = burst(
        [f"{two_services[0].url}/api/llm/jobs"], LONG, make_key(token_limit=10**6), count=1
    )[0]
    cost = 10**6 - int(probe.headers["x-ratelimit-remaining-tokens"])

    given = fire(two_services, make_key(token_limit=7 * cost + cost // 2), LONG)

    assert tally(given) == {None: 7, "token_limit_exceeded": COUNT - 7}


def test_the_limit_of_jobs_in_flight_is_exact_over_two_processes(
    two_services: list[Service], make_key: Callable[..., dict[str, str]]
) -> None:
    given = fire(two_services, make_key(max_in_flight=10), LONG)

    assert tally(given) == {None: 10, "too_many_in_flight": COUNT - 10}


def test_the_slot_of_a_job_in_flight_is_free_when_the_job_has_ended(
    two_services: list[Service], make_key: Callable[..., dict[str, str]]
) -> None:
    key = make_key(max_in_flight=1, token_limit=100_000)

    for _ in range(3):
        response = two_services[0].call("POST", "/api/llm/generate", json=SHORT, headers=key)
        assert response.status_code == 200, response.text

    serialized = two_services[1].call("GET", "/api/limits", headers=key).json()
    used = response.json()["usage"]["total_tokens"]
    assert serialized["maxInFlight"]["used"] == 0
    assert serialized["monthlyTokenLimit"]["used"] == 3 * used
