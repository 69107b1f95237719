from __future__ import annotations

from typing import Any

import pytest

from core.config.settings import Settings
from core.ids import new_id
from tests.support.http.accounts import PASSWORD, register, sign_in
from tests.support.http.errors import error_of
from tests.support.service import Service

NO_NAME = "name must not contain control characters or invisible format characters"


def post(service: Service, **fields: Any) -> Any:
    body = {"email": f"{new_id().hex}@example.com", "password": PASSWORD, **fields}
    return service.call("POST", "/api/auth/register", json=body)


def test_registering_makes_a_customer_who_is_signed_in(service: Service) -> None:
    email = f"{new_id().hex}@Example.com"

    response = post(service, email=email, name="Ann")

    assert response.status_code == 201
    assert set(response.json()) == {"token", "refreshToken", "user"}
    assert response.json()["user"] | {"id": "", "createdAt": ""} == {
        "id": "",
        "email": email.lower(),
        "name": "Ann",
        "role": "customer",
        "isActive": True,
        "createdAt": "",
    }
    account = sign_in(service, email)
    assert account.call("GET", "/api/auth/me").json() == response.json()["user"]


@pytest.mark.parametrize("field", ["role", "isAdmin", "tokenVersion", "id"])
def test_a_registration_cannot_set_the_role_or_other_protected_fields(
    service: Service, field: str
) -> None:
    response = post(service, **{field: "admin"})

    assert (response.status_code, error_of(response)) == (400, "invalid_request")
    assert response.json()["error"]["message"] == f"{field} is not a known field"


def test_an_email_is_taken_in_any_case(service: Service) -> None:
    account = register(service)

    response = post(service, email=account.email.upper())

    assert (response.status_code, error_of(response)) == (409, "email_taken")


@pytest.mark.parametrize(
    ("first", "alike"),
    [
        ("{}@x.com", "{}\N{FULLWIDTH COMMERCIAL AT}x.com"),
        ("{}a@x.com", "{}\N{FULLWIDTH LATIN CAPITAL LETTER A}@x.com"),
        ("{}\u00e9@x.com", "{}e\u0301@x.com"),
    ],
)
def test_an_email_in_lookalike_characters_is_the_same(
    service: Service, first: str, alike: str
) -> None:
    name = new_id().hex
    account = register(service, email=first.format(name))

    response = post(service, email=alike.format(name))

    assert (response.status_code, error_of(response)) == (409, "email_taken")
    assert sign_in(service, alike.format(name)).id == account.id


def test_a_password_works_in_every_unicode_composition(service: Service) -> None:
    account = register(service, password="caf\u00e9 noir")

    assert sign_in(service, account.email, "cafe\u0301 noir").id == account.id


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"password": "1234567"}, "password must have at least 8 characters"),
        ({"password": "x" * 1025}, "password must have at most 1024 characters"),
        ({"password": "12345678"}, "password is one of the most common passwords, choose another"),
        (
            {"password": " " * 8},
            "password must not be blank or one character again and again",
        ),
        (
            {"email": "Long@Example.com", "password": "long@example.com"},
            "password must not be the email",
        ),
        ({"email": "a\u200b@x.com"}, "email must be an address such as name@example.com"),
        ({"email": "a\u034f@x.com"}, "email must be an address such as name@example.com"),
        ({"email": "a\u3164@x.com"}, "email must be an address such as name@example.com"),
        ({"email": "a\u202e@x.com"}, "email must be an address such as name@example.com"),
        ({"name": "\u200b"}, NO_NAME),
        ({"name": "a\nb"}, NO_NAME),
        ({"name": " "}, "name must contain a visible character"),
        ({"email": "no-address"}, "email must be an address such as name@example.com"),
        ({"email": "a b@c.d"}, "email must be an address such as name@example.com"),
        ({"email": "a@b@c"}, "email must be an address such as name@example.com"),
        ({"email": "a@b.c\r\nbcc: x@y.z"}, "email must be an address such as name@example.com"),
        ({"email": "x" * 320 + "@a.b"}, "email must have at most 320 characters"),
        ({"email": "a\x00@b.c"}, "email must not contain NUL characters"),
        ({"name": "x" * 201}, "name must have at most 200 characters"),
        ({"name": "a\x00b"}, "name must not contain NUL characters"),
    ],
)
def test_the_error_names_a_wrong_field(
    service: Service, fields: dict[str, str], message: str
) -> None:
    response = post(service, **fields)

    assert (response.status_code, error_of(response)) == (400, "invalid_request")
    assert response.json()["error"]["message"] == message
    assert fields.get("password", "no password") not in response.text


def test_registration_can_be_closed(
    base_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("closed")
    with Service.started(
        base_settings, directory, workers=0, api_processes=1, registration_open=False
    ) as service:
        response = post(service)

        assert (response.status_code, error_of(response)) == (403, "forbidden")
        assert "closed" in response.json()["error"]["message"]
