"""Signing in and registering are limited by email and by address, over all API processes."""

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
from core.ids import new_id
from core.settings import Settings
from models.base import SessionFactory
from models.user import User
from tests.api.accounts import PASSWORD, register
from tests.api.test_auth import error_of
from tests.service import Service, wait_until

#: Longer than any test of the service.
WINDOW_SECONDS = 120
#: One test waits for its end, and makes five attempts in it.
SHORT_WINDOW_SECONDS = 6


@pytest.fixture(scope="module")
def strict(
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


def an_address() -> dict[str, str]:
    """Return the header with which the proxy says where a call came from."""
    return {"X-Forwarded-For": f"2001:db8:{new_id().hex[-8:-4]}:{new_id().hex[-4:]}::1"}


def login(service: Service, email: str, password: str, headers: dict[str, str]) -> Any:
    body = {"email": email, "password": password}
    return service.call("POST", "/api/auth/login", json=body, headers=headers)


def test_attempts_with_an_email_are_limited_over_all_processes(strict: Service) -> None:
    account, here = register(strict, sent=an_address()), an_address()

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: login(strict, account.email, "wrong", here), range(12)))

    refused = [answer for answer in answers if answer.status_code == 429]
    assert sorted(answer.status_code for answer in answers) == [401] * 4 + [429] * 8
    assert {error_of(answer) for answer in refused} == {"too_many_attempts"}
    assert all(1 <= int(answer.headers["Retry-After"]) <= WINDOW_SECONDS for answer in refused)

    early = login(strict, account.email, PASSWORD, here)
    assert early.status_code == 429
    assert "try again in" in early.json()["error"]["message"]


def test_an_unknown_email_is_limited_in_the_same_way(strict: Service) -> None:
    email, here = f"{new_id().hex}@example.com", an_address()

    answers = [login(strict, email, "wrong", here).status_code for _ in range(6)]

    assert answers == [401] * 4 + [429] * 2


def test_strangers_cannot_keep_an_owner_out(strict: Service) -> None:
    account, home = register(strict, sent=an_address()), an_address()
    assert login(strict, account.email, PASSWORD, home).status_code == 200

    answers = [login(strict, account.email, "wrong", an_address()) for _ in range(9)]

    assert sorted(answer.status_code for answer in answers) == [401] * 6 + [429] * 3
    signed_in = login(strict, account.email, PASSWORD, home)
    assert signed_in.status_code == 200
    assert login(strict, account.email, "wrong", an_address()).status_code == 429
    body = {"currentPassword": PASSWORD, "newPassword": f"{PASSWORD} anew"}
    token = {"Authorization": f"Bearer {signed_in.json()['token']}", **an_address()}
    changed = strict.call("POST", "/api/auth/change-password", json=body, headers=token)
    assert changed.status_code == 200


def test_an_operator_lifts_what_keeps_an_email_out(strict: Service) -> None:
    account, here = register(strict, sent=an_address()), an_address()
    for _ in range(5):
        login(strict, account.email, "wrong", here)
    assert login(strict, account.email, PASSWORD, here).status_code == 429

    done = strict.command("unlock", account.email)

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{account.email} may sign in again\n"
    assert login(strict, account.email, PASSWORD, here).status_code == 200


def test_success_resets_the_emails_count(strict: Service) -> None:
    account, answers, here = register(strict, sent=an_address()), [], an_address()

    for password in ["wrong"] * 3 + [PASSWORD] + ["wrong"] * 3 + [PASSWORD]:
        answers.append(login(strict, account.email, password, here).status_code)

    assert answers == [401, 401, 401, 200] * 2


def test_an_address_must_wait_whatever_email_it_tries(strict: Service) -> None:
    here = an_address()

    answers = [login(strict, f"{n}@example.com", "wrong", here) for n in range(9)]

    assert [answer.status_code for answer in answers] == [401] * 8 + [429]
    assert login(strict, "1@example.com", "wrong", an_address()).status_code == 401


def test_what_a_caller_puts_before_the_proxys_word_is_not_believed(strict: Service) -> None:
    here = an_address()["X-Forwarded-For"]

    answers = [
        login(strict, f"{n}@x.com", "wrong", {"X-Forwarded-For": f"192.0.2.{n}, {here}"})
        for n in range(9)
    ]

    assert [answer.status_code for answer in answers] == [401] * 8 + [429]


def test_registrations_from_one_address_are_limited(strict: Service) -> None:
    here = an_address()

    def post() -> Any:
        body = {"email": f"{new_id().hex}@example.com", "password": PASSWORD}
        return strict.call("POST", "/api/auth/register", json=body, headers=here)

    answers = [post() for _ in range(4)]

    assert [answer.status_code for answer in answers] == [201] * 3 + [429]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= WINDOW_SECONDS


def test_an_email_must_wait_and_then_the_right_password_works(
    base_settings: Settings, database: SessionFactory, admin: User, client: redis.Redis
) -> None:
    low = {"login_attempts_per_email": 4, "login_window_seconds": SHORT_WINDOW_SECONDS}
    app = create_app(Services.from_settings(base_settings.model_copy(update=low))).test_client()

    def sign_in(password: str) -> Any:
        body = {"email": "admin@bountycoder.com", "password": password}
        return app.post("/api/auth/login", json=body)

    assert [sign_in("wrong").status_code for _ in range(4)] == [401] * 4
    early = sign_in("admin123")
    assert early.status_code == 429
    ends = time.monotonic() + int(early.headers["retry-after-ms"]) / 1000

    # What is tried before the end makes the wait no longer.
    wait_until(
        lambda: sign_in("admin123").status_code == 200 or time.monotonic() >= ends,
        SHORT_WINDOW_SECONDS + 20,
    )

    assert sign_in("admin123").status_code == 200


def test_without_a_proxy_an_address_cannot_be_forged(
    base_settings: Settings, database: SessionFactory, client: redis.Redis
) -> None:
    settings = base_settings.model_copy(update={"login_attempts_per_address": 2})
    app = create_app(Services.from_settings(settings)).test_client()

    answers = [
        app.post(
            "/api/auth/login",
            json={"email": f"{n}@x.com", "password": "wrong"},
            headers={"X-Forwarded-For": f"192.0.2.{n}", "X-Real-IP": f"192.0.2.{n}"},
        ).status_code
        for n in range(3)
    ]

    assert answers == [401, 401, 429]


@pytest.mark.parametrize("path", ["/api/auth/login", "/api/auth/register"])
def test_without_redis_nobody_may_try(
    base_settings: Settings, database: SessionFactory, admin: User, path: str
) -> None:
    gone = {"redis_url": SecretStr("redis://127.0.0.1:1/0")}
    app = create_app(Services.from_settings(base_settings.model_copy(update=gone))).test_client()

    answer = app.post(path, json={"email": "admin@bountycoder.com", "password": PASSWORD})

    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1


def test_a_database_that_is_away_costs_no_attempt(
    base_settings: Settings, database: SessionFactory, admin: User, client: redis.Redis
) -> None:
    gone = {"database_url": SecretStr("postgresql+psycopg2://u:p@127.0.0.1:1/none")}
    away = create_app(Services.from_settings(base_settings.model_copy(update=gone))).test_client()
    body = {"email": "admin@bountycoder.com", "password": "admin123"}

    assert {away.post("/api/auth/login", json=body).status_code for _ in range(12)} == {503}

    app = create_app(Services.from_settings(base_settings)).test_client()
    assert app.post("/api/auth/login", json=body).status_code == 200
