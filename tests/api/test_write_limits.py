"""Whatever writes has a limit a minute for each user, whichever key or token it comes with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import text

from api.app import create_app
from api.openapi.document import calls_of
from api.openapi.operation import Who
from api.services import Services
from api.write_limits import is_write
from core.settings import Settings
from models.api_key import create_key
from models.base import SessionFactory
from models.user import User
from tests.api.accounts import PASSWORD, signed_in
from tests.minute import wait_for_room
from tests.models.factories import add_user, hash_quickly

WRITES = 4
BYTES = 2000
FILE = b'{"prompt": "x", "maxTokens": 5}\n'
#: Calls that end a key, a session, or all others.
TAKE_ACCESS_AWAY = {"auth.change_password", "auth.logout", "keys.delete"}
JSONL = {"Content-Type": "application/jsonl"}

#: Makes a user's key and returns what a request sends with it.
MakeKey = Callable[[User], dict[str, str]]


@pytest.fixture
def app_with(base_settings: Settings, client: redis.Redis) -> Iterator[Callable[..., FlaskClient]]:
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


def codes(answers: list[Any]) -> set[str]:
    return {answer.get_json()["error"]["code"] for answer in answers if answer.status_code >= 400}


def test_a_user_writes_so_often_a_minute_with_all_keys_and_tokens_together(
    app_with: Callable[..., FlaskClient], database: SessionFactory, user: User, make_key: MakeKey
) -> None:
    app = app_with(write_rate_limit=WRITES)
    token, first, second = signed_in(app, user), make_key(user), make_key(user)
    gone = "/api/llm/jobs/job_" + "0" * 32

    answers = [
        answer
        for _ in range(WRITES)
        for answer in (
            app.post("/api/keys", json={"name": "k"}, headers=token),
            app.delete(gone, headers=first),
            app.delete(gone, headers=second),
        )
    ]

    assert codes(answers) == {"not_found", "too_many_writes"}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert app.get("/api/keys", headers=token).status_code == 200
    generated = app.post("/api/llm/jobs", json={"prompt": "x", "maxTokens": 5}, headers=first)
    assert generated.status_code == 202
    with database.begin() as session:
        other = add_user(session)
    answer = app.post("/api/keys", json={"name": "k"}, headers=signed_in(app, other))
    assert answer.status_code == 201


def test_every_call_that_writes_is_counted_and_says_so(
    app_with: Callable[..., FlaskClient],
) -> None:
    for call in calls_of(app_with().application):
        said = {code for refusal in call.refusals for code in refusal.codes}
        is_counted = "too_many_writes" in said

        if call.method == "get" or call.operation.who is Who.ANYONE:
            assert not is_counted, call.endpoint
        else:
            is_generation = call.endpoint.partition(".")[0] in {"generate", "v1_generate"}
            takes_access_away = call.endpoint in TAKE_ACCESS_AWAY
            assert is_counted is not (is_generation or takes_access_away), call.endpoint
            assert is_write(call.method, call.endpoint) is is_counted


def test_a_thief_of_a_key_cannot_keep_its_owner_from_ending_it(
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

    assert [answer.status_code for answer in (ended, changed, left)] == [204, 200, 204]


def test_without_redis_a_key_can_be_switched_off(
    app_with: Callable[..., FlaskClient], user: User
) -> None:
    made = app_with().post("/api/keys", json={"name": "k"}, headers=signed_in(app_with(), user))
    app = app_with(redis_url=SecretStr("redis://127.0.0.1:1/0"))

    answer = app.put(
        f"/api/keys/{made.get_json()['id']}",
        json={"isActive": False},
        headers=signed_in(app, user),
    )

    assert answer.status_code == 200


def test_a_user_sends_so_many_bytes_a_minute(
    app_with: Callable[..., FlaskClient], user: User, make_key: MakeKey
) -> None:
    app = app_with(upload_bytes_per_minute=BYTES)
    first, second = make_key(user), make_key(user)
    file = FILE * (BYTES // len(FILE) // 2)

    answers = [
        app.post("/api/llm/batches", data=file, headers={**key, **JSONL})
        for _ in range(3)
        for key in (first, second)
    ]

    assert codes(answers) == {"too_many_upload_bytes"}
    statuses = [answer.status_code for answer in answers]
    assert 201 in statuses
    refused = answers[statuses.index(429)]
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
    with services.sessions.begin() as session:
        end_lines(session)

    answers = [app.post(f"/api/llm/batches/{batch['id']}/retry", headers=key) for _ in range(4)]

    assert "too_many_upload_bytes" in codes(answers)


def end_lines(session: Any) -> None:
    """End what the feeder would."""
    session.execute(text("update jobs set state = 'cancelled', finished_at = now()"))
    session.execute(
        text("update batches set state = 'cancelled', cancelled = total, finished_at = now()")
    )
