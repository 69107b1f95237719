"""A suspended user can do nothing until an admin lifts that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from sqlalchemy import select

from api.app import create_app
from api.services import Services
from core.settings import Settings
from models.api_key import ApiKey
from models.base import SessionFactory, utc_now
from models.job import Job, JobState
from models.user import User
from tests.api.test_key_limits import Call, signed_in
from tests.conftest import ADMIN_EMAIL, ADMIN_PASSWORD
from tests.service import wait_until

PERSON = {"email": "c@example.com", "password": "a password of the tests"}
SUSPENDED = (403, "user_suspended")
BODY = {"prompt": "x", "maxTokens": 5}


@pytest.fixture
def app(
    base_settings: Settings, database: SessionFactory, client: redis.Redis
) -> Iterator[FlaskClient]:
    services = Services.from_settings(base_settings)
    yield create_app(services).test_client()
    services.news.close()


@pytest.fixture
def administrator(app: FlaskClient, admin: User) -> Call:
    return signed_in(app, ADMIN_EMAIL, ADMIN_PASSWORD)


@pytest.fixture
def account(app: FlaskClient) -> dict[str, Any]:
    """What a customer got who registered."""
    return dict(app.post("/api/auth/register", json=PERSON).get_json())


@pytest.fixture
def token(account: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {account['token']}"}


@pytest.fixture
def key(app: FlaskClient, token: dict[str, str]) -> dict[str, Any]:
    return dict(app.post("/api/keys", json={"name": "k"}, headers=token).get_json())


@pytest.fixture
def path(account: dict[str, Any]) -> str:
    return f"/api/users/{account['user']['id']}"


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["error"]["code"]


def submit(app: FlaskClient, key: dict[str, Any]) -> Any:
    return app.post("/api/llm/jobs", json=BODY, headers={"x-api-key": key["secret"]})


def test_a_suspended_user_is_refused_everywhere_and_goes_on_when_that_is_lifted(
    app: FlaskClient,
    administrator: Call,
    account: dict[str, Any],
    token: dict[str, str],
    key: dict[str, Any],
    path: str,
) -> None:
    with_id = {**token, "x-api-key-id": key["id"]}
    refresh = {"refreshToken": account["refreshToken"]}

    suspended = administrator("PUT", path, isActive=False)

    assert suspended.get_json()["isActive"] is False
    assert administrator("GET", path).get_json()["isActive"] is False
    assert refusal(app.post("/api/auth/login", json=PERSON)) == SUSPENDED
    assert refusal(app.post("/api/auth/refresh", json=refresh)) == SUSPENDED
    assert refusal(app.get("/api/auth/me", headers=token)) == SUSPENDED
    assert refusal(app.get("/api/keys", headers=token)) == SUSPENDED
    assert refusal(app.post("/api/llm/jobs", json=BODY, headers=with_id)) == SUSPENDED
    assert refusal(submit(app, key)) == SUSPENDED
    assert refusal(app.get("/api/llm/jobs", headers={"x-api-key": key["secret"]})) == SUSPENDED
    assert refusal(app.post("/api/auth/register", json=PERSON)) == (409, "email_taken")
    assert refusal(app.post("/api/auth/login", json={**PERSON, "password": "wrong-one"})) == (
        401,
        "invalid_credentials",
    )

    assert administrator("PUT", path, isActive=True).get_json()["isActive"] is True
    assert app.get("/api/auth/me", headers=token).status_code == 200
    assert submit(app, key).status_code == 202


def test_a_key_that_was_believed_a_moment_ago_is_refused_when_its_owner_is_suspended(
    app: FlaskClient, administrator: Call, key: dict[str, Any], path: str, database: SessionFactory
) -> None:
    with database.begin() as session:
        session.scalars(select(ApiKey)).one().last_used_at = utc_now()
    assert [submit(app, key).status_code for _ in range(2)] == [202, 202]

    administrator("PUT", path, isActive=False)

    assert refusal(submit(app, key)) == SUSPENDED


def test_only_an_admin_suspends(app: FlaskClient, token: dict[str, str], path: str) -> None:
    answer = app.put(path, json={"isActive": False}, headers=token)

    assert refusal(answer) == (403, "forbidden")
    assert answer.get_json()["error"]["param"] == "isActive"
    assert app.put(path, json={"isActive": True}, headers=token).status_code == 200


def test_the_last_active_admin_is_not_suspended(
    app: FlaskClient, administrator: Call, admin: User, path: str
) -> None:
    own = f"/api/users/{administrator('GET', '/api/auth/me').get_json()['id']}"

    assert refusal(administrator("PUT", own, isActive=False)) == (409, "last_admin")

    administrator("PUT", path, role="admin")
    assert administrator("PUT", path, isActive=False).status_code == 200
    for change in ({"isActive": False}, {"role": "customer"}):
        assert refusal(administrator("PUT", own, **change)) == (409, "last_admin")
    assert refusal(administrator("DELETE", own)) == (409, "last_admin")


def test_the_audit_trail_says_who_was_suspended_and_what_that_ended(
    app: FlaskClient,
    administrator: Call,
    key: dict[str, Any],
    path: str,
    database: SessionFactory,
) -> None:
    for _ in range(3):
        assert submit(app, key).status_code == 202

    administrator("PUT", path, isActive=False)

    entry = administrator("GET", "/api/admin/activity?limit=1").get_json()["data"][0]
    assert entry["action"] == "user.update"
    assert entry["details"] == {
        "isActive": {"from": True, "to": False},
        "jobs": 3,
        "batches": 0,
    }

    def states() -> list[str]:
        with database() as session:
            return list(session.scalars(select(Job.state)))

    wait_until(lambda: states() == [JobState.CANCELLED] * 3, 20)
