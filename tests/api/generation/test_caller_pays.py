"""A call is charged to its own key and to no other key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
import redis
from flask.testing import FlaskClient

from api.app import create_app
from api.services import Services
from core.config.settings import Settings
from core.ids import Prefix, format_id
from models.accounts.api_key import ApiKey, create_key
from models.accounts.user import Role, User
from models.batches.batch import BatchState
from models.database.base import SessionFactory
from tests.support.factories.batches import add_batch
from tests.support.factories.rows import add_file, add_user
from tests.support.http.accounts import signed_in

POLLS = 3


@pytest.fixture
def services(base_settings: Settings, redis_client: redis.Redis) -> Iterator[Services]:
    made = Services.from_settings(base_settings.model_copy(update={"poll_rate_limit": POLLS}))
    yield made
    made.jobs.events.close()


@pytest.fixture
def app(services: Services) -> FlaskClient:
    return create_app(services).test_client()


@pytest.fixture
def make_key(database: SessionFactory) -> Callable[[User], tuple[UUID, dict[str, str]]]:
    def make(owner: User) -> tuple[UUID, dict[str, str]]:
        with database.begin() as session:
            key, secret = create_key(session, user_id=owner.id, name="k", rate_limit=60)
            return key.id, {"x-api-key": secret.text}

    return make


@pytest.fixture
def owner(database: SessionFactory) -> User:
    with database.begin() as session:
        return add_user(session)


@pytest.fixture
def an_admin(database: SessionFactory) -> User:
    with database.begin() as session:
        return add_user(session, role=Role.ADMIN)


def test_an_admin_cannot_generate_with_a_customers_key(
    app: FlaskClient, owner: User, an_admin: User, make_key: Any
) -> None:
    key_id, _ = make_key(owner)
    headers = {**signed_in(app, an_admin), "x-api-key-id": format_id(Prefix.KEY, key_id)}

    response = app.post("/api/llm/jobs", json={"prompt": "x"}, headers=headers)

    assert response.status_code == 401
    assert response.get_json()["error"]["code"] == "invalid_api_key"


def test_an_admins_retry_is_not_paid_by_the_batchs_owner(
    app: FlaskClient, database: SessionFactory, owner: User, an_admin: User, make_key: Any
) -> None:
    key_id, _ = make_key(owner)
    own_id, _ = make_key(an_admin)
    with database.begin() as session:
        batch = add_batch(session, session.get_one(ApiKey, key_id), requests=[], total=1)
        batch.state, batch.failed = BatchState.COMPLETED, 1
        path = f"/api/llm/batches/{format_id(Prefix.BATCH, batch.id)}/retry"
    admin_headers = signed_in(app, an_admin)

    refused = app.post(path, headers=admin_headers)
    with_own = app.post(
        path, headers={**admin_headers, "x-api-key-id": format_id(Prefix.KEY, own_id)}
    )

    assert (refused.status_code, refused.get_json()["error"]["code"]) == (403, "forbidden")
    assert with_own.status_code == 409, with_own.text  # no line can be retried


def test_each_key_of_a_user_has_its_own_limit_of_polls_for_webhooks(
    app: FlaskClient, owner: User, make_key: Any
) -> None:
    (_, first), (_, second) = make_key(owner), make_key(owner)
    statuses = [app.get("/api/webhooks", headers=first).status_code for _ in range(3 * POLLS)]

    assert 429 in statuses
    assert app.get("/api/webhooks", headers=second).status_code == 200
    assert app.get("/api/webhooks", headers=signed_in(app, owner)).status_code == 200


def test_a_repeated_request_counts_as_a_poll(app: FlaskClient, owner: User, make_key: Any) -> None:
    _, key = make_key(owner)
    named = {**key, "Idempotency-Key": "once"}
    body = {"prompt": "x", "maxTokens": 5}
    first = app.post("/api/llm/jobs", json=body, headers=named)

    repeated = [app.post("/api/llm/jobs", json=body, headers=named) for _ in range(3 * POLLS)]

    assert first.status_code == 202
    statuses = [response.status_code for response in repeated]
    assert 202 in statuses and 429 in statuses  # the minute may end during the requests
    refused = next(response for response in repeated if response.status_code == 429)
    assert refused.get_json()["error"]["code"] == "rate_limit_exceeded"
    assert int(refused.headers["Retry-After"]) >= 1


def test_the_audit_trail_has_what_an_admin_does_to_a_customers_jobs(
    app: FlaskClient, database: SessionFactory, owner: User, an_admin: User, make_key: Any
) -> None:
    key_id, headers = make_key(owner)
    with database.begin() as session:
        batch = add_batch(session, session.get_one(ApiKey, key_id), lines=1)
        batch_path = f"/api/llm/batches/{format_id(Prefix.BATCH, batch.id)}/cancel"
        file = add_file(session, session.get_one(ApiKey, key_id))
        file_path = f"/v1/files/{format_id(Prefix.FILE, file.id)}"
    body = {"prompt": "x", "maxTokens": 5}
    own, others = (
        f"/api/llm/jobs/{app.post('/api/llm/jobs', json=body, headers=headers).get_json()['id']}"
        for _ in range(2)
    )
    assert app.delete(own, headers=headers).status_code == 200
    admin_headers = signed_in(app, an_admin)

    responses = [
        app.delete(others, headers=admin_headers),
        app.post(batch_path, headers=admin_headers),
        app.delete(file_path, headers=admin_headers),
    ]

    assert [response.status_code for response in responses] == [200, 200, 200]
    trail = app.get("/api/admin/activity", headers=admin_headers).get_json()["data"]
    assert [entry["action"] for entry in trail] == ["file.delete", "batch.cancel", "job.cancel"]
    assert trail[2]["targetId"] == others.rpartition("/")[2]
    assert {entry["details"]["owner"] for entry in trail} == {format_id(Prefix.USER, owner.id)}
