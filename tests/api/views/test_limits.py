from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import select
from werkzeug.test import TestResponse

from models.accounts.api_key import create_key
from models.database.base import SessionFactory
from models.execution.completion import record_end
from models.jobs.job import Job, JobState
from models.jobs.outcome import JobOutcome
from models.jobs.transitions import finish_job
from tests.support.factories.rows import add_user, claim_job
from tests.support.minute import wait_for_room

NOBODY = SecretStr("redis://127.0.0.1:1/0")
BODY = {"prompt": "x", "maxTokens": 50}


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
    response = app.get("/api/limits", headers=key)
    assert response.status_code == 200, response.text
    return dict(response.get_json())


def end_job(database: SessionFactory, *, tokens: int) -> None:
    """Claim and complete the oldest queued job."""
    with database.begin() as session:
        job_id = session.scalars(select(Job.id).where(Job.state == JobState.QUEUED)).first()
        assert job_id is not None
        claim_job(session, job_id, worker_id="w", lease=timedelta(seconds=10))
        outcome = JobOutcome(JobState.SUCCEEDED, completion_tokens=tokens)
        ended = finish_job(session, job_id, attempt=1, outcome=outcome)
        assert ended is not None
        record_end(session, ended)


def test_a_key_sees_each_of_its_limits_and_the_reset(
    app_with: Callable[..., FlaskClient],
    redis_client: redis.Redis,
    make_key: Callable[..., dict[str, str]],
) -> None:
    app = app_with()
    key = make_key(rate_limit=60, max_in_flight=3, monthly_token_limit=10_000)
    wait_for_room()
    before = datetime.now(UTC)
    accepted = submit(app, key)
    assert accepted.status_code == 202, accepted.text

    use = limits(app, key)

    charged = use["monthlyTokenLimit"]["used"]
    assert charged > 50
    minute = datetime.fromisoformat(use["rateLimit"]["resetsAt"])
    month = datetime.fromisoformat(use["monthlyTokenLimit"]["resetsAt"])
    assert 0 < (minute - before).total_seconds() <= 120 and minute.second == 0
    assert (month.day, month.hour, month.minute) == (1, 0, 0) and month > before
    assert use == {
        "rateLimit": {
            "limit": 60,
            "used": 1,
            "remaining": 59,
            "resetsAt": use["rateLimit"]["resetsAt"],
        },
        "tokenLimit": {
            "limit": None,
            "used": charged,
            "remaining": None,
            "resetsAt": use["rateLimit"]["resetsAt"],
        },
        "monthlyTokenLimit": {
            "limit": 10_000,
            "used": charged,
            "remaining": 10_000 - charged,
            "resetsAt": use["monthlyTokenLimit"]["resetsAt"],
        },
        "maxInFlight": {"limit": 3, "used": 1, "remaining": 2, "resetsAt": None},
    }


def test_a_refused_request_makes_no_job_and_is_charged_nothing(
    app_with: Callable[..., FlaskClient],
    redis_client: redis.Redis,
    database: SessionFactory,
    make_key: Callable[..., dict[str, str]],
) -> None:
    app, key = app_with(), make_key(monthly_token_limit=10)

    response = submit(app, key)

    assert response.status_code == 429
    assert response.get_json()["error"]["code"] == "monthly_quota_exceeded"
    assert response.headers["x-should-retry"] == "false"
    assert limits(app, key)["rateLimit"]["used"] == 0
    with database() as session:
        assert session.scalars(select(Job)).all() == []


def test_quota_and_jobs_in_flight_survive_the_loss_of_redis(
    app_with: Callable[..., FlaskClient],
    redis_client: redis.Redis,
    database: SessionFactory,
    make_key: Callable[..., dict[str, str]],
) -> None:
    app, key = app_with(), make_key(monthly_token_limit=1000, max_in_flight=2)
    assert submit(app, key).status_code == 202
    charged = limits(app, key)["monthlyTokenLimit"]["used"]
    end_job(database, tokens=900)
    assert submit(app, key).status_code == 202

    redis_client.flushall()

    use = limits(app, key)
    assert use["monthlyTokenLimit"]["used"] == 900 + charged
    assert use["maxInFlight"]["used"] == 1
    refused = submit(app, key)
    assert refused.status_code == 429
    assert refused.get_json()["error"]["code"] == "monthly_quota_exceeded"


def test_a_request_that_is_refused_for_a_long_queue_is_charged_nothing(
    app_with: Callable[..., FlaskClient],
    redis_client: redis.Redis,
    database: SessionFactory,
    make_key: Callable[..., dict[str, str]],
) -> None:
    app, key = app_with(max_queue_length=3), make_key(rate_limit=60)
    wait_for_room()
    accepted = [submit(app, key) for _ in range(3)]

    refused = submit(app, key)

    assert [response.status_code for response in accepted] == [202] * 3
    assert refused.status_code == 503
    assert refused.get_json()["error"]["code"] == "overloaded"
    assert int(refused.headers["Retry-After"]) >= 1
    assert limits(app, key)["rateLimit"]["used"] == 3


def test_reading_the_limits_counts_as_a_poll(
    app_with: Callable[..., FlaskClient],
    redis_client: redis.Redis,
    make_key: Callable[..., dict[str, str]],
) -> None:
    app, key = app_with(poll_rate_limit=2), make_key(rate_limit=1)

    statuses = [app.get("/api/limits", headers=key).status_code for _ in range(6)]

    assert 200 in statuses and 429 in statuses  # a minute may end in between


def test_limits_are_returned_to_keys_only(
    app_with: Callable[..., FlaskClient], database: SessionFactory
) -> None:
    assert app_with().get("/api/limits").status_code == 401


def test_without_redis_limits_are_unknown(
    app_with: Callable[..., FlaskClient], make_key: Callable[..., dict[str, str]]
) -> None:
    response = app_with(redis_url=NOBODY).get("/api/limits", headers=make_key())

    assert response.status_code == 503
    assert response.get_json()["error"]["code"] == "queue_unavailable"
