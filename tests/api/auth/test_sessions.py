"""Sessions: signing in, refreshing the tokens and signing out."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest
from sqlalchemy import select, update

from core.ids import Prefix, format_id
from models.accounts.audit import AuditEntry
from models.accounts.session import GRACE, UserSession
from tests.support.http.accounts import me_with, register, sign_in, signed
from tests.support.http.errors import error_of
from tests.support.service import Service


def test_signing_in_gives_tokens_and_the_user(service: Service) -> None:
    response = service.call(
        "POST",
        "/api/auth/login",
        json={"email": "Admin@BountyCoder.com", "password": "admin123"},
    )

    assert response.status_code == 200
    assert set(response.json()) == {"token", "refreshToken", "user"}
    assert response.json()["user"]["role"] == "admin"


@pytest.mark.parametrize(
    ("email", "password"), [("admin@bountycoder.com", "wrong"), ("nobody@x.com", "admin123")]
)
def test_a_wrong_password_and_an_unknown_email_have_the_same_response(
    service: Service, email: str, password: str
) -> None:
    response = service.call("POST", "/api/auth/login", json={"email": email, "password": password})

    assert (response.status_code, error_of(response)) == (401, "invalid_credentials")
    assert response.json()["error"]["message"] == "the email or the password is wrong"


def test_me_is_the_signed_in_user(service: Service) -> None:
    me = service.call("GET", "/api/auth/me", headers=service.sign_in_admin()).json()

    assert me["email"] == "admin@bountycoder.com"
    assert "password" not in json.dumps(me)


def test_a_refresh_token_gives_new_tokens_and_an_access_token_does_not(service: Service) -> None:
    tokens = service.call(
        "POST", "/api/auth/login", json={"email": "admin@bountycoder.com", "password": "admin123"}
    ).json()

    good = service.call("POST", "/api/auth/refresh", json={"refreshToken": tokens["refreshToken"]})
    bad = service.call("POST", "/api/auth/refresh", json={"refreshToken": tokens["token"]})
    as_access = service.call(
        "GET", "/api/auth/me", headers={"Authorization": f"Bearer {tokens['refreshToken']}"}
    )

    assert good.status_code == 200
    assert (bad.status_code, error_of(bad)) == (401, "invalid_token")
    assert (as_access.status_code, error_of(as_access)) == (401, "invalid_token")


def refresh(service: Service, token: str) -> Any:
    return service.call("POST", "/api/auth/refresh", json={"refreshToken": token})


def age_sessions(service: Service) -> None:
    """Move the last refresh of every session back, out of the time in which it can be repeated."""
    with service.sessions.begin() as session:
        session.execute(
            update(UserSession).values(refreshed_at=UserSession.refreshed_at - 2 * GRACE)
        )


def test_signing_out_ends_the_tokens_of_the_session_and_no_others(service: Service) -> None:
    account = register(service)
    other = sign_in(service, account.email)

    assert account.call("POST", "/api/auth/logout").status_code == 204

    responses = [account.call("GET", "/api/auth/me"), refresh(service, account.refresh_token)]
    assert [(response.status_code, error_of(response)) for response in responses] == [
        (401, "invalid_token")
    ] * 2
    assert account.call("POST", "/api/auth/logout").status_code == 401
    assert other.call("GET", "/api/auth/me").status_code == 200
    assert refresh(service, other.refresh_token).status_code == 200


def test_a_second_use_of_a_refresh_token_ends_its_session(service: Service) -> None:
    account = register(service)
    other = sign_in(service, account.email)
    newest = refresh(service, account.refresh_token).json()
    age_sessions(service)

    reused = refresh(service, account.refresh_token)

    assert (reused.status_code, error_of(reused)) == (401, "invalid_token")
    assert error_of(refresh(service, newest["refreshToken"])) == "invalid_token"
    assert me_with(service, newest["token"]) == (401, "invalid_token")
    assert me_with(service, account.token) == (401, "invalid_token")
    assert other.call("GET", "/api/auth/me").status_code == 200
    with service.sessions() as session:
        entries = session.scalars(
            select(AuditEntry).where(AuditEntry.action == "auth.refresh_reused")
        ).all()
    assert [format_id(Prefix.USER, entry.target_id) for entry in entries if entry.target_id] == [
        account.id
    ]


def test_a_refresh_whose_response_was_lost_can_be_repeated(service: Service) -> None:
    account = register(service)

    with ThreadPoolExecutor(4) as pool:
        responses = list(pool.map(lambda _: refresh(service, account.refresh_token), range(4)))

    assert [response.status_code for response in responses] == [200] * 4
    for response in responses[:2]:
        assert refresh(service, response.json()["refreshToken"]).status_code == 200


def test_each_refresh_token_gives_the_next(service: Service) -> None:
    token = register(service).refresh_token

    for _ in range(4):
        response = refresh(service, token)
        age_sessions(service)
        assert response.status_code == 200
        token = response.json()["refreshToken"]

    assert me_of(service, response.json()["token"]).status_code == 200


def test_tokens_without_a_session_stay_valid(service: Service) -> None:
    """An earlier version of the service issued them."""
    account = register(service)
    old = {
        kind: signed(
            service, {k: v for k, v in claims_of(token).items() if k not in {"sid", "num"}}
        )
        for kind, token in (("access", account.token), ("refresh", account.refresh_token))
    }
    account.call("POST", "/api/auth/logout")

    assert me_of(service, old["access"]).status_code == 200
    responses = [refresh(service, old["refresh"]) for _ in range(2)]
    assert [response.status_code for response in responses] == [200, 200]
    assert "sid" in claims_of(responses[0].json()["token"])

    headers = {"Authorization": f"Bearer {old['access']}"}
    assert service.call("POST", "/api/auth/logout", headers=headers).status_code == 204
    assert me_with(service, old["access"]) == (401, "invalid_token")


def test_a_token_that_names_no_real_session_is_refused(service: Service) -> None:
    account, other = register(service), register(service)
    for session_id in ("", "session_" + "0" * 32, claims_of(other.token)["sid"], 5):
        forged = signed(service, {**claims_of(account.token), "sid": session_id})

        assert me_with(service, forged) == (401, "invalid_token")


def me_of(service: Service, token: str) -> Any:
    return service.call("GET", "/api/auth/me", headers={"Authorization": f"Bearer {token}"})


def claims_of(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))
