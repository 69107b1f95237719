"""Sign-ins and registrations are limited by email and by address, over all API processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from api.app import create_app
from api.services import Services
from core.config.settings import Settings
from core.ids import new_id
from models.accounts.user import User
from models.database.base import SessionFactory
from tests.support.factories.rows import ADMIN_EMAIL, ADMIN_PASSWORD
from tests.support.http.accounts import PASSWORD, register
from tests.support.http.errors import error_of
from tests.support.polling import wait_until
from tests.support.service import Service

#: Longer than any test of the service.
WINDOW_SECONDS = 120
#: Waited for by one test, which makes five attempts in it.
SHORT_WINDOW_SECONDS = 6


@pytest.fixture(scope="module")
def strict_service(
    base_settings: Settings, _redis: redis.Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service of two API processes behind one proxy, with low limits."""
    with Service.started(
        base_settings,
        tmp_path_factory.mktemp("strict"),
        workers=0,
        api_processes=2,
        trusted_proxies=1,
        login_attempts_per_email=4,
        login_attempts_per_email_anywhere=6,
        login_attempts_per_address=8,
        login_window_seconds=WINDOW_SECONDS,
        registration_attempts_per_address=3,
        registration_window_seconds=WINDOW_SECONDS,
    ) as running:
        yield running


def new_address() -> dict[str, str]:
    """Return the header in which the proxy passes on the address of a new client."""
    return {"X-Forwarded-For": f"2001:db8:{new_id().hex[-8:-4]}:{new_id().hex[-4:]}::1"}


def login(service: Service, email: str, password: str, headers: dict[str, str]) -> Any:
    body = {"email": email, "password": password}
    return service.call("POST", "/api/auth/login", json=body, headers=headers)


def test_attempts_with_an_email_are_limited_over_all_processes(strict_service: Service) -> None:
    account, here = register(strict_service, sent=new_address()), new_address()

    with ThreadPoolExecutor(12) as pool:
        responses = list(
            pool.map(lambda _: login(strict_service, account.email, "wrong", here), range(12))
        )

    refused = [response for response in responses if response.status_code == 429]
    assert sorted(response.status_code for response in responses) == [401] * 4 + [429] * 8
    assert {error_of(response) for response in refused} == {"too_many_attempts"}
    assert all(1 <= int(response.headers["Retry-After"]) <= WINDOW_SECONDS for response in refused)

    early = login(strict_service, account.email, PASSWORD, here)
    assert early.status_code == 429
    assert "try again in" in early.json()["error"]["message"]


def test_an_unknown_email_is_limited_in_the_same_way(strict_service: Service) -> None:
    email, here = f"{new_id().hex}@example.com", new_address()

    responses = [login(strict_service, email, "wrong", here).status_code for _ in range(6)]

    assert responses == [401] * 4 + [429] * 2


def test_attempts_of_others_do_not_lock_an_owner_out(strict_service: Service) -> None:
    account, home = register(strict_service, sent=new_address()), new_address()
    assert login(strict_service, account.email, PASSWORD, home).status_code == 200

    responses = [login(strict_service, account.email, "wrong", new_address()) for _ in range(9)]

    assert sorted(response.status_code for response in responses) == [401] * 6 + [429] * 3
    signed_in = login(strict_service, account.email, PASSWORD, home)
    assert signed_in.status_code == 200
    assert login(strict_service, account.email, "wrong", new_address()).status_code == 429
    body = {"currentPassword": PASSWORD, "newPassword": f"new {PASSWORD}"}
    token = {"Authorization": f"Bearer {signed_in.json()['token']}", **new_address()}
    changed = strict_service.call("POST", "/api/auth/change-password", json=body, headers=token)
    assert changed.status_code == 200


def test_an_operator_unlocks_an_email(strict_service: Service) -> None:
    account, here = register(strict_service, sent=new_address()), new_address()
    for _ in range(5):
        login(strict_service, account.email, "wrong", here)
    assert login(strict_service, account.email, PASSWORD, here).status_code == 429

    done = strict_service.command("unlock", account.email)

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{account.email} can sign in again\n"
    assert login(strict_service, account.email, PASSWORD, here).status_code == 200


def test_success_resets_the_emails_count(strict_service: Service) -> None:
    account, responses, here = register(strict_service, sent=new_address()), [], new_address()

    for password in ["wrong"] * 3 + [PASSWORD] + ["wrong"] * 3 + [PASSWORD]:
        responses.append(login(strict_service, account.email, password, here).status_code)

    assert responses == [401, 401, 401, 200] * 2


def test_an_address_must_wait_for_all_emails_together(strict_service: Service) -> None:
    here = new_address()

    responses = [login(strict_service, f"{n}@example.com", "wrong", here) for n in range(9)]

    assert [response.status_code for response in responses] == [401] * 8 + [429]
    assert login(strict_service, "1@example.com", "wrong", new_address()).status_code == 401


def test_an_address_that_the_client_claims_is_ignored(strict_service: Service) -> None:
    here = new_address()["X-Forwarded-For"]

    responses = [
        login(strict_service, f"{n}@x.com", "wrong", {"X-Forwarded-For": f"192.0.2.{n}, {here}"})
        for n in range(9)
    ]

    assert [response.status_code for response in responses] == [401] * 8 + [429]


def test_registrations_from_one_address_are_limited(strict_service: Service) -> None:
    here = new_address()

    def post() -> Any:
        body = {"email": f"{new_id().hex}@example.com", "password": PASSWORD}
        return strict_service.call("POST", "/api/auth/register", json=body, headers=here)

    responses = [post() for _ in range(4)]

    assert [response.status_code for response in responses] == [201] * 3 + [429]
    assert 1 <= int(responses[-1].headers["Retry-After"]) <= WINDOW_SECONDS


def test_an_email_must_wait_and_then_the_right_password_works(
    base_settings: Settings, database: SessionFactory, admin: User, redis_client: redis.Redis
) -> None:
    low = {"login_attempts_per_email": 4, "login_window_seconds": SHORT_WINDOW_SECONDS}
    app = create_app(Services.from_settings(base_settings.model_copy(update=low))).test_client()

    def sign_in(password: str) -> Any:
        return app.post("/api/auth/login", json={"email": ADMIN_EMAIL, "password": password})

    assert [sign_in("wrong").status_code for _ in range(4)] == [401] * 4
    early = sign_in(ADMIN_PASSWORD)
    assert early.status_code == 429
    ends = time.monotonic() + int(early.headers["retry-after-ms"]) / 1000

    # Attempts during the wait do not prolong it.
    wait_until(
        lambda: sign_in(ADMIN_PASSWORD).status_code == 200 or time.monotonic() >= ends,
        SHORT_WINDOW_SECONDS + 20,
    )

    assert sign_in(ADMIN_PASSWORD).status_code == 200


def test_without_a_proxy_an_address_cannot_be_forged(
    base_settings: Settings, database: SessionFactory, redis_client: redis.Redis
) -> None:
    settings = base_settings.model_copy(update={"login_attempts_per_address": 2})
    app = create_app(Services.from_settings(settings)).test_client()

    responses = [
        app.post(
            "/api/auth/login",
            json={"email": f"{n}@x.com", "password": "wrong"},
            headers={"X-Forwarded-For": f"192.0.2.{n}", "X-Real-IP": f"192.0.2.{n}"},
        ).status_code
        for n in range(3)
    ]

    assert responses == [401, 401, 429]


@pytest.mark.parametrize("path", ["/api/auth/login", "/api/auth/register"])
def test_without_redis_sign_in_and_registration_are_unavailable(
    base_settings: Settings, database: SessionFactory, admin: User, path: str
) -> None:
    gone = {"redis_url": SecretStr("redis://127.0.0.1:1/0")}
    app = create_app(Services.from_settings(base_settings.model_copy(update=gone))).test_client()

    response = app.post(path, json={"email": "admin@bountycoder.com", "password": PASSWORD})

    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1


def test_an_attempt_while_the_database_is_away_is_not_counted(
    base_settings: Settings, database: SessionFactory, admin: User, redis_client: redis.Redis
) -> None:
    gone = {"database_url": SecretStr("postgresql+psycopg2://u:p@127.0.0.1:1/none")}
    away = create_app(Services.from_settings(base_settings.model_copy(update=gone))).test_client()
    body = {"email": "admin@bountycoder.com", "password": "admin123"}

    assert {away.post("/api/auth/login", json=body).status_code for _ in range(12)} == {503}

    app = create_app(Services.from_settings(base_settings)).test_client()
    assert app.post("/api/auth/login", json=body).status_code == 200
