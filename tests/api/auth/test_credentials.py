"""The error for a misplaced or malformed credential says what to send, in both APIs."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.support.service import Service

KEY = "bc_000000000000_" + "A" * 43
V1, NATIVE = "/v1/models", "/api/llm/models"
JWT_ONLY = "/api/keys"
BASIC = base64.b64encode(f"x:{KEY}".encode()).decode()


def ask(service: Service, path: str, headers: dict[str, str], query: str = "") -> Any:
    response = service.call("GET", f"{path}{query}", headers=headers)
    assert response.status_code == 401, response.text
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="bountycoder"'
    assert KEY not in response.text and BASIC not in response.text
    return response.json()["error"]


@pytest.mark.parametrize(
    ("headers", "code", "text"),
    [
        ({}, "missing_credentials", "send an API key as `Authorization: Bearer bc_…`"),
        ({"Authorization": "Bearer"}, "invalid_api_key", "the credential is missing after"),
        ({"Authorization": KEY}, "invalid_api_key", "the word `Bearer` is missing"),
        ({"Authorization": f"Basic {BASIC}"}, "invalid_api_key", "Basic `Authorization` is not"),
        ({"Authorization": f"Token {KEY}"}, "invalid_api_key", "this kind of `Authorization`"),
        ({"Authorization": f"Bearer Bearer {KEY}"}, "invalid_api_key", "stands twice"),
        ({"Authorization": f'Bearer "{KEY}"'}, "invalid_api_key", "quotation marks"),
        ({"Authorization": "Bearer sk-abc"}, "invalid_api_key", "API keys begin with `bc_`"),
        ({"Authorization": f"Bearer {KEY}"}, "invalid_api_key", "mistyped, replaced or deleted"),
        ({"x-api-key": "sk-abc"}, "invalid_api_key", "keys begin with `bc_`"),
        ({"api-key": KEY}, "invalid_api_key", "the header `api-key` is not read"),
    ],
)
def test_an_error_of_v1_says_how_to_send_an_api_key(
    service: Service, headers: dict[str, str], code: str, text: str
) -> None:
    for path in (V1, "/v1/files"):
        error = ask(service, path, headers)

        assert error["code"] == code
        assert text in error["message"]


@pytest.mark.parametrize(
    ("headers", "code", "text"),
    [
        ({}, "missing_credentials", "send an API key as `Authorization: Bearer bc_…`"),
        ({"Authorization": KEY}, "missing_credentials", "the word `Bearer` is missing"),
        ({"Authorization": "Bearer sk-abc"}, "invalid_token", "API keys begin with `bc_`"),
        ({"Authorization": "Bearer a.b.c"}, "invalid_token", "sign in again"),
        ({"api-key": KEY}, "missing_credentials", "the header `api-key` is not read"),
    ],
)
def test_an_error_of_the_native_api_says_what_to_send(
    service: Service, headers: dict[str, str], code: str, text: str
) -> None:
    error = ask(service, NATIVE, headers)

    assert error["code"] == code
    assert text in error["message"]


@pytest.mark.parametrize("path", [V1, NATIVE])
@pytest.mark.parametrize("query", [f"?api_key={KEY}", f"?key={KEY}", "?access_token=x"])
def test_the_error_for_a_key_in_the_url_names_the_header(
    service: Service, path: str, query: str
) -> None:
    error = ask(service, path, {}, query)

    assert "in the URL is not read" in error["message"]
    assert "Bearer bc_…" in error["message"]


def test_an_error_of_a_call_that_needs_a_jwt_names_the_sign_in(service: Service) -> None:
    nothing = ask(service, JWT_ONLY, {})
    by_key = ask(service, JWT_ONLY, {"Authorization": f"Bearer {KEY}"})

    assert nothing["message"].startswith("send the token of POST /api/auth/login")
    assert by_key["code"] == "invalid_token"
    assert "not an API key" in by_key["message"]


@pytest.mark.parametrize(
    ("headers", "query", "text"),
    [
        ({"Authorization": KEY}, "", "the word `Bearer` is missing before the API key"),
        ({"Authorization": "a.b.c"}, "", "the word `Bearer` is missing before the JWT"),
        ({"Authorization": f"Basic {BASIC}"}, "", "Basic `Authorization` is not supported"),
        ({"api-key": KEY}, "", "the header `api-key` is not read"),
        ({}, f"?api_key={KEY}", "a credential in the URL is not read, and logs may store it"),
    ],
)
def test_an_error_of_a_call_that_needs_a_jwt_never_asks_for_an_api_key(
    service: Service, headers: dict[str, str], query: str, text: str
) -> None:
    error = ask(service, JWT_ONLY, headers, query)

    assert error["message"].startswith(f"{text}: send the token of POST /api/auth/login")


def test_every_401_names_the_scheme_of_its_credentials(service: Service) -> None:
    wrong = {"email": "nobody@x.com", "password": "wrong password"}
    calls = [
        service.call("POST", "/api/auth/login", json=wrong),
        service.call("POST", "/api/auth/refresh", json={"refreshToken": "x"}),
        service.call("GET", "/api/admin/overview"),
        service.call("POST", "/api/auth/logout"),
        service.call("POST", "/v1/chat/completions", json={}),
        service.call("POST", "/api/llm/generate", json={}),
    ]

    for response in calls:
        if response.status_code == 401:
            assert response.headers["WWW-Authenticate"] == 'Bearer realm="bountycoder"'
    assert [response.status_code for response in calls] == [401] * 6
