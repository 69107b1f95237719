"""A JWT is accepted only with our signature and the claims that the service issued."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

import jwt
import pytest

from core.config.settings import DEVELOPMENT_SECRET
from models.accounts.user import find_user_by_email
from tests.support.http.accounts import me_with, register, signed
from tests.support.http.errors import error_of
from tests.support.service import Service


def claims(service: Service, **changes: Any) -> dict[str, Any]:
    token = service.sign_in_admin()["Authorization"].split()[1]
    return {**jwt.decode(token, options={"verify_signature": False}), **changes}


def part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_a_token_signed_with_our_secret_and_claims_is_taken(service: Service) -> None:
    response = service.call(
        "GET",
        "/api/auth/me",
        headers={"Authorization": f"Bearer {signed(service, claims(service))}"},
    )

    # So the tests below are refused only for the claims that they change.
    assert response.status_code == 200


def test_a_token_signed_with_the_public_default_is_refused(service: Service) -> None:
    forged = jwt.encode(claims(service), DEVELOPMENT_SECRET, "HS256")

    assert me_with(service, forged) == (401, "invalid_token")


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", ""])
def test_a_token_without_a_signature_is_refused(service: Service, algorithm: str) -> None:
    forged = f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims(service))}."

    assert me_with(service, forged) == (401, "invalid_token")


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_another_algorithm_is_refused_although_its_signature_is_right(
    service: Service, algorithm: str
) -> None:
    secret = service.settings.secret_key.get_secret_value().encode()
    signed_part = f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims(service))}"
    digest = f"sha{algorithm.removeprefix('HS')}"
    signature = hmac.digest(secret, signed_part.encode(), digest)

    forged = f"{signed_part}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"

    assert jwt.decode(forged, options={"verify_signature": False})
    assert me_with(service, forged) == (401, "invalid_token")


def test_a_token_changed_to_another_users_id_is_refused(service: Service) -> None:
    account = register(service)
    admin_id = claims(service)["sub"]
    head, payload, signature = account.token.split(".")
    changed = {**jwt.decode(account.token, options={"verify_signature": False}), "sub": admin_id}

    forged = f"{head}.{part(changed)}.{signature}"

    assert me_with(service, f"{head}.{payload}.{signature}"[:-2]) == (401, "invalid_token")
    assert me_with(service, forged) == (401, "invalid_token")


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "another"},
        {"aud": "another"},
        {"ver": -1},
        {"ver": "0"},
        {"ver": None},
        {"type": "refresh"},
        {"sub": "nobody"},
        {"sub": f"user_{'0' * 32}"},
        {"nbf": 4_000_000_000},
    ],
    ids=str,
)
def test_a_token_with_another_claim_is_refused(service: Service, change: dict[str, Any]) -> None:
    forged = signed(service, claims(service, **change))

    assert me_with(service, forged) == (401, "invalid_token")


@pytest.mark.parametrize("claim", ["iss", "aud", "ver", "sub", "exp"])
def test_a_token_without_a_claim_is_refused(service: Service, claim: str) -> None:
    payload = claims(service)
    del payload[claim]

    assert me_with(service, signed(service, payload)) == (401, "invalid_token")


def test_a_deleted_users_token_is_refused(service: Service) -> None:
    account = register(service)
    service.call("DELETE", f"/api/users/{account.id}", headers=service.sign_in_admin())

    payload = {**jwt.decode(account.token, options={"verify_signature": False}), "ver": 1}

    assert me_with(service, account.token) == (401, "invalid_token")
    assert me_with(service, signed(service, payload)) == (401, "invalid_token")


def test_an_expired_token_says_so(service: Service) -> None:
    secret = service.settings.secret_key.get_secret_value()
    expired = jwt.encode(claims(service, exp=int(time.time()) - 5), secret, "HS256")

    assert me_with(service, expired) == (401, "token_expired")


def test_a_raised_token_version_ends_all_tokens(service: Service) -> None:
    headers = service.sign_in_admin()
    with service.sessions.begin() as session:
        user = find_user_by_email(session, "admin@bountycoder.com")
        assert user is not None
        user.token_version += 1

    response = service.call("GET", "/api/auth/me", headers=headers)

    assert (response.status_code, error_of(response)) == (401, "invalid_token")


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer not.a.jwt", "Bearer ünï"]
)
def test_a_malformed_token_is_refused(service: Service, header: str) -> None:
    response = service.call("GET", "/api/auth/me", headers={"Authorization": header.encode()})

    assert response.status_code == 401
    assert error_of(response) in {"missing_credentials", "invalid_token"}
