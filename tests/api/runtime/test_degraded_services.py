"""If a part is away, the API returns 503 with the part and a retry time, and leaves no job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import redis
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import select

from api.app import create_app
from api.services import Services
from core.config.settings import Settings
from core.queueing.broker import JobQueue
from core.redis.client import open_redis
from models.accounts.api_key import create_key
from models.accounts.user import User
from models.database.base import SessionFactory
from models.jobs.job import Job
from tests.support.factories.rows import claim_job

NO_REDIS = SecretStr("redis://127.0.0.1:1/0")
NO_DATABASE = SecretStr("postgresql+psycopg2://u:p@127.0.0.1:1/none")


@pytest.fixture
def key(database: SessionFactory, admin: User) -> dict[str, str]:
    with database.begin() as session:
        _, secret = create_key(session, user_id=admin.id, name="k", rate_limit=5)
    return {"x-api-key": secret.text}


@pytest.fixture
def app_with() -> Iterator[Callable[..., FlaskClient]]:
    """Return a function that creates API applications with another queue or limiter."""
    opened = []

    def make(settings: Settings, *, queue: Any = None, limiter: Any = None) -> FlaskClient:
        services = Services.from_settings(settings)
        if queue is not None:
            services = replace(services, jobs=replace(services.jobs, queue=queue))
        if limiter is not None:
            services = replace(services, limits=replace(services.limits, limiter=limiter))
        opened.append(services)
        return create_app(services).test_client()

    yield make
    for services in opened:
        services.jobs.events.close()


def jobs(database: SessionFactory) -> list[Job]:
    with database() as session:
        return list(session.scalars(select(Job)))


def test_without_redis_a_generation_is_refused_and_leaves_no_job(
    app_with: Callable[..., FlaskClient],
    base_settings: Settings,
    database: SessionFactory,
    key: dict[str, str],
) -> None:
    app = app_with(base_settings.model_copy(update={"redis_url": NO_REDIS}))

    response = app.post("/api/llm/generate", json={"prompt": "x"}, headers=key)

    assert response.status_code == 503
    assert response.get_json()["error"]["code"] == "queue_unavailable"
    assert int(response.headers["Retry-After"]) >= 1
    assert jobs(database) == []


def test_a_job_that_cannot_be_enqueued_fails(
    app_with: Callable[..., FlaskClient],
    base_settings: Settings,
    database: SessionFactory,
    redis_client: redis.Redis,
    key: dict[str, str],
) -> None:
    dead = open_redis(base_settings.model_copy(update={"redis_url": NO_REDIS}))
    app = app_with(base_settings, queue=JobQueue(dead))

    response = app.post("/api/llm/generate", json={"prompt": "x"}, headers=key)

    assert response.status_code == 503
    assert [job.state for job in jobs(database)] == ["failed"]


def test_the_api_waits_for_a_job_that_a_worker_claimed_although_enqueueing_failed(
    app_with: Callable[..., FlaskClient],
    base_settings: Settings,
    database: SessionFactory,
    redis_client: redis.Redis,
    key: dict[str, str],
) -> None:
    class QueueWithLostReply:
        def send(self, job_id: UUID, queue: object) -> None:
            with database.begin() as session:
                claim_job(session, job_id, worker_id="w", lease=timedelta(seconds=9))
            raise redis.TimeoutError

    settings = base_settings.model_copy(update={"sync_wait_seconds": 0.2})
    app = app_with(settings, queue=QueueWithLostReply())

    response = app.post("/api/llm/generate", json={"prompt": "x"}, headers=key)

    assert response.status_code == 202
    assert response.get_json()["status"] == "running"


@pytest.mark.parametrize("path", ["/api/auth/login", "/api/llm/generate"])
def test_without_the_database_credentials_get_503_and_not_401(
    app_with: Callable[..., FlaskClient],
    base_settings: Settings,
    key: dict[str, str],
    path: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = app_with(base_settings.model_copy(update={"database_url": NO_DATABASE}))
    body = {"prompt": "x"} if "llm" in path else {"email": "a@b.c", "password": "p"}

    response = app.post(path, json=body, headers=key)

    assert response.status_code == 503
    assert response.get_json()["error"]["code"] == "database_unavailable"
    assert "127.0.0.1" not in response.text
    assert "the database is away: OperationalError" in caplog.text


def test_readiness_names_the_parts_that_are_away(
    app_with: Callable[..., FlaskClient], base_settings: Settings
) -> None:
    gone = {"database_url": NO_DATABASE, "redis_url": NO_REDIS}
    response = app_with(base_settings.model_copy(update=gone)).get("/readyz")

    assert response.status_code == 503
    assert response.get_json()["parts"] == {
        "database": "away",
        "redis": "away",
        "workers": "unknown",
    }


def test_an_internal_error_publishes_no_traceback(
    app_with: Callable[..., FlaskClient],
    base_settings: Settings,
    database: SessionFactory,
    redis_client: redis.Redis,
    key: dict[str, str],
) -> None:
    class Broken:
        def charge(self, *_: object, **__: object) -> None:
            raise ZeroDivisionError("secret detail")

    response = app_with(base_settings, limiter=Broken()).post(
        "/api/llm/generate", json={"prompt": "x"}, headers=key
    )

    assert response.status_code == 500
    assert response.get_json()["error"]["code"] == "internal_error"
    assert "secret detail" not in response.text
    assert jobs(database) == []
