from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import select
from werkzeug.test import TestResponse

from api.app import create_app
from api.services import Services
from core.settings import Settings
from models.api_key import create_key
from models.base import SessionFactory
from models.job import Job, JobOutcome, JobState
from models.job_changes import finish_job
from models.job_end import record_end
from tests.minute import wait_for_room
from tests.models.factories import add_user, claim_job

NOBODY = SecretStr("redis://127.0.0.1:1/0")
BODY = {"prompt": "x", "maxTokens": 50}


@pytest.fixture
def app_with(base_settings: Settings) -> Iterator[Callable[..., FlaskClient]]:
    """Makes API applications with changed settings; they stop listening at the end."""
    opened = []

    def make(**changes: Any) -> FlaskClient:
        services = Services.from_settings(base_settings.model_copy(update=changes))
        opened.append(services)
        return create_app(services).test_client()

    yield make
    for services in opened:
        services.news.close()


@pytest.fixture
def make_key(database: SessionFactory) -> Callable[..., dict[str, str]]:
    def make(**limits: int) -> dict[str, str]:
        with database.begin() as session:
            owner = add_user(session)
            fields = {"rate_limit": 60, **limits}
            _, secret = create_key(session, user_id=owner.id, name="k", **fields)
        return {"x-api-key": secret.text}

    return make


def submit(app: FlaskClient, key: dict[str, str]) -> TestResponse:
    return app.post("/api/llm/jobs", json=BODY, headers=key)


def limits(app: FlaskClient, key: dict[str, str]) -> dict[str, Any]:
    answer = app.get("/api/limits", headers=key)
    assert answer.status_code == 200, answer.text
    return dict(answer.get_json())


def end_job(database: SessionFactory, *, tokens: int) -> None:
    """End the oldest queued job."""
    with database.begin() as session:
        job_id = session.scalars(select(Job.id).where(Job.state == JobState.QUEUED)).first()
        assert job_id is not None
        claim_job(session, job_id, worker_id="w", lease=timedelta(seconds=10))
        outcome = JobOutcome(JobState.SUCCEEDED, completion_tokens=tokens)
        ended = finish_job(session, job_id, attempt=1, outcome=outcome)
        assert ended is not None
        record_end(session, ended)


def test_a_key_sees_each_of_its_limits_and_when_it_begins_again(
    app_with: Callable[..., FlaskClient],
    client: redis.Redis,
    make_key: Callable[..., dict[str, str]],
) -> None:
    app = app_with()
    key = make_key(rate_limit=60, max_in_flight=3, monthly_token_limit=10_000)
    wait_for_room()
    before = datetime.now(UTC)
    accepted = submit(app, key)
    assert accepted.status_code == 202, accepted.text

    shown = limits(app, key)

    charged = shown["monthlyTokenLimit"]["used"]
    assert charged > 50
    minute = datetime.fromisoformat(shown["rateLimit"]["resetsAt"])
    month = datetime.fromisoformat(shown["monthlyTokenLimit"]["resetsAt"])
    assert 0 < (minute - before).total_seconds() <= 120 and minute.second == 0
    assert (month.day, month.hour, month.minute) == (1, 0, 0) and month > before
    assert shown == {
        "rateLimit": {
            "limit": 60,
            "used": 1,
            "remaining": 59,
            "resetsAt": shown["rateLimit"]["resetsAt"],
        },
        "tokenLimit": {
            "limit": None,
            "used": charged,
            "remaining": None,
            "resetsAt": shown["rateLimit"]["resetsAt"],
        },
        "monthlyTokenLimit": {
            "limit": 10_000,
            "used": charged,
            "remaining": 10_000 - charged,
            "resetsAt": shown["monthlyTokenLimit"]["resetsAt"],
        },
        "maxInFlight": {"limit": 3, "used": 1, "remaining": 2, "resetsAt": None},
    }


def test_a_refused_request_makes_no_job_and_is_charged_nothing(
    app_with: Callable[..., FlaskClient],
    client: redis.Redis,
    database: SessionFactory,
    make_key: Callable[..., dict[str, str]],
) -> None:
    app, key = app_with(), make_key(monthly_token_limit=10)

    answer = submit(app, key)

    assert answer.status_code == 429
    assert answer.get_json()["error"]["code"] == "monthly_quota_exceeded"
    assert answer.headers["x-should-retry"] == "false"
    assert limits(app, key)["rateLimit"]["used"] == 0
    with database() as session:
        assert session.scalars(select(Job)).all() == []


def test_losing_all_of_redis_keeps_the_quota_and_the_jobs_in_flight(
    app_with: Callable[..., FlaskClient],
    client: redis.Redis,
    database: SessionFactory,
    make_key: Callable[..., dict[str, str]],
) -> None:
    app, key = app_with(), make_key(monthly_token_limit=1000, max_in_flight=2)
    assert submit(app, key).status_code == 202
    charged = limits(app, key)["monthlyTokenLimit"]["used"]
    end_job(database, tokens=900)
    assert submit(app, key).status_code == 202

    client.flushall()

    shown = limits(app, key)
    assert shown["monthlyTokenLimit"]["used"] == 900 + charged
    assert shown["maxInFlight"]["used"] == 1
    refused = submit(app, key)
    assert refused.status_code == 429
    assert refused.get_json()["error"]["code"] == "monthly_quota_exceeded"


def test_a_line_that_is_too_long_refuses_and_charges_nothing(
    app_with: Callable[..., FlaskClient],
    client: redis.Redis,
    database: SessionFactory,
    make_key: Callable[..., dict[str, str]],
) -> None:
    app, key = app_with(max_queue_length=3), make_key(rate_limit=60)
    wait_for_room()
    accepted = [submit(app, key) for _ in range(3)]

    refused = submit(app, key)

    assert [answer.status_code for answer in accepted] == [202] * 3
    assert refused.status_code == 503
    assert refused.get_json()["error"]["code"] == "overloaded"
    assert int(refused.headers["Retry-After"]) >= 1
    assert limits(app, key)["rateLimit"]["used"] == 3


def test_looking_at_limits_has_a_limit_of_its_own(
    app_with: Callable[..., FlaskClient],
    client: redis.Redis,
    make_key: Callable[..., dict[str, str]],
) -> None:
    app, key = app_with(poll_rate_limit=2), make_key(rate_limit=1)

    looks = [app.get("/api/limits", headers=key).status_code for _ in range(6)]

    assert 200 in looks and 429 in looks  # a minute may end in between


def test_limits_are_shown_to_keys_only(
    app_with: Callable[..., FlaskClient], database: SessionFactory
) -> None:
    assert app_with().get("/api/limits").status_code == 401


def test_without_redis_limits_are_unknown(
    app_with: Callable[..., FlaskClient], make_key: Callable[..., dict[str, str]]
) -> None:
    answer = app_with(redis_url=NOBODY).get("/api/limits", headers=make_key())

    assert answer.status_code == 503
    assert answer.get_json()["error"]["code"] == "queue_unavailable"
