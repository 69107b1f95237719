"""Requests that write are limited per minute and user, over all keys and tokens of the user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import text

from api.auth.write_limits import is_write
from api.openapi.document import calls_of
from api.openapi.operation import CallerKind
from api.services import Services
from models.accounts.api_key import create_key
from models.accounts.user import User
from models.database.base import SessionFactory
from tests.support.factories.rows import add_user, hash_quickly
from tests.support.http.accounts import PASSWORD, signed_in
from tests.support.minute import wait_for_room

WRITES = 4
BYTES = 2000
FILE = b'{"prompt": "x", "maxTokens": 5}\n'
#: Calls that end a key, a session, or all other sessions.
TAKE_ACCESS_AWAY = {"auth.change_password", "auth.logout", "keys.delete"}
JSONL = {"Content-Type": "application/jsonl"}

#: Creates a key of a user and returns the headers of its requests.
MakeKey = Callable[[User], dict[str, str]]


@pytest.fixture
def make_key(database: SessionFactory) -> MakeKey:
    def make(owner: User) -> dict[str, str]:
        with database.begin() as session:
            _, secret = create_key(session, user_id=owner.id, name="k", rate_limit=60)
            return {"x-api-key": secret.text}

    return make


@pytest.fixture
def user(database: SessionFactory) -> User:
    with database.begin() as session:
        return add_user(session)


def codes(responses: list[Any]) -> set[str]:
    return {
        response.get_json()["error"]["code"]
        for response in responses
        if response.status_code >= 400
    }


def test_all_keys_and_tokens_of_a_user_share_the_limit_of_writes(
    app_with: Callable[..., FlaskClient], database: SessionFactory, user: User, make_key: MakeKey
) -> None:
    app = app_with(write_rate_limit=WRITES)
    token, first, second = signed_in(app, user), make_key(user), make_key(user)
    gone = "/api/llm/jobs/job_" + "0" * 32

    responses = [
        response
        for _ in range(WRITES)
        for response in (
            app.post("/api/keys", json={"name": "k"}, headers=token),
            app.delete(gone, headers=first),
            app.delete(gone, headers=second),
        )
    ]

    assert codes(responses) == {"not_found", "too_many_writes"}
    refused = next(response for response in responses if response.status_code == 429)
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert app.get("/api/keys", headers=token).status_code == 200
    generated = app.post("/api/llm/jobs", json={"prompt": "x", "maxTokens": 5}, headers=first)
    assert generated.status_code == 202
    with database.begin() as session:
        other = add_user(session)
    response = app.post("/api/keys", json={"name": "k"}, headers=signed_in(app, other))
    assert response.status_code == 201


def test_every_call_that_writes_is_counted_and_documents_it(
    app_with: Callable[..., FlaskClient],
) -> None:
    for call in calls_of(app_with().application):
        said = {code for refusal in call.refusals for code in refusal.codes}
        is_counted = "too_many_writes" in said

        if call.method == "get" or call.operation.caller is CallerKind.ANYONE:
            assert not is_counted, call.endpoint
        else:
            is_generation = call.endpoint.partition(".")[0] in {"generate", "v1_generate"}
            takes_access_away = call.endpoint in TAKE_ACCESS_AWAY
            assert is_counted is not (is_generation or takes_access_away), call.endpoint
            assert is_write(call.method, call.endpoint) is is_counted


def test_the_thief_of_a_key_cannot_keep_its_owner_from_deleting_it(
    app_with: Callable[..., FlaskClient], database: SessionFactory, user: User
) -> None:
    with database.begin() as session:
        session.get_one(User, user.id).password_hash = hash_quickly(PASSWORD)
    app = app_with(write_rate_limit=1)
    token = signed_in(app, user)
    wait_for_room()
    made = app.post("/api/keys", json={"name": "k"}, headers=token).get_json()
    stolen = app.delete("/api/llm/jobs/job_" + "0" * 32, headers={"x-api-key": made["secret"]})
    assert codes([stolen]) == {"too_many_writes"}

    ended = app.delete(f"/api/keys/{made['id']}", headers=token)
    words = {"currentPassword": PASSWORD, "newPassword": "another long one"}
    changed = app.post("/api/auth/change-password", json=words, headers=token)
    token = {"Authorization": f"Bearer {changed.get_json()['token']}"}
    left = app.post("/api/auth/logout", headers=token)

    assert [response.status_code for response in (ended, changed, left)] == [204, 200, 204]


def test_without_redis_a_key_can_be_switched_off(
    app_with: Callable[..., FlaskClient], user: User
) -> None:
    made = app_with().post("/api/keys", json={"name": "k"}, headers=signed_in(app_with(), user))
    app = app_with(redis_url=SecretStr("redis://127.0.0.1:1/0"))

    response = app.put(
        f"/api/keys/{made.get_json()['id']}",
        json={"isActive": False},
        headers=signed_in(app, user),
    )

    assert response.status_code == 200


def test_all_keys_of_a_user_share_the_limit_of_uploaded_bytes(
    app_with: Callable[..., FlaskClient], user: User, make_key: MakeKey
) -> None:
    app = app_with(upload_bytes_per_minute=BYTES)
    first, second = make_key(user), make_key(user)
    file = FILE * (BYTES // len(FILE) // 2)

    responses = [
        app.post("/api/llm/batches", data=file, headers={**key, **JSONL})
        for _ in range(3)
        for key in (first, second)
    ]

    assert codes(responses) == {"too_many_upload_bytes"}
    statuses = [response.status_code for response in responses]
    assert 201 in statuses
    refused = responses[statuses.index(429)]
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.headers["Connection"] == "close"


def test_a_retry_counts_the_bytes_that_it_writes(
    app_with: Callable[..., FlaskClient], user: User, make_key: MakeKey
) -> None:
    app, key = app_with(upload_bytes_per_minute=BYTES), make_key(user)
    batch = app.post(
        "/api/llm/batches?onError=skip", data=FILE * 20, headers={**key, **JSONL}
    ).get_json()
    app.post(f"/api/llm/batches/{batch['id']}/cancel", headers=key)
    with app.application.app_context():
        services: Services = app.application.extensions["bountycoder"]
    with services.database.sessions.begin() as session:
        end_lines(session)

    responses = [app.post(f"/api/llm/batches/{batch['id']}/retry", headers=key) for _ in range(4)]

    assert "too_many_upload_bytes" in codes(responses)


def end_lines(session: Any) -> None:
    """End all lines and batches, as the dispatcher does after a cancel."""
    session.execute(text("update jobs set state = 'cancelled', finished_at = now()"))
    session.execute(
        text("update batches set state = 'cancelled', cancelled = total, finished_at = now()")
    )
