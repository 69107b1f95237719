from __future__ import annotations

from typing import Any

import pytest

from core.ids import new_id
from tests.support.http.accounts import PASSWORD, make_admin, register, sign_in
from tests.support.http.errors import error_of
from tests.support.service import Service


def make(service: Service, **fields: Any) -> Any:
    body = {"email": f"{new_id().hex}@example.com", "password": PASSWORD, **fields}
    return service.call("POST", "/api/users", json=body, headers=service.sign_in_admin())


def test_an_admin_makes_users_of_both_roles(service: Service) -> None:
    customer, admin = make(service, name="Ann"), make(service, role="admin")

    assert (customer.status_code, admin.status_code) == (201, 201)
    assert set(customer.json()) == {
        "id",
        "email",
        "name",
        "role",
        "isActive",
        "createdAt",
        "keyCount",
    }
    assert (customer.json()["name"], customer.json()["role"]) == ("Ann", "customer")
    assert sign_in(service, admin.json()["email"]).call("GET", "/api/users").status_code == 200


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"password": "short"}, "password"),
        ({"email": "no-address"}, "email"),
        ({"role": "owner"}, "role"),
        ({"tokenVersion": 5}, "tokenVersion"),
    ],
)
def test_a_wrong_field_is_named(service: Service, fields: dict[str, Any], param: str) -> None:
    response = make(service, **fields)

    assert (response.status_code, error_of(response)) == (400, "invalid_request")
    assert response.json()["error"]["param"] == param


def test_an_email_is_taken_once(service: Service) -> None:
    first, other = register(service), register(service)

    made = make(service, email=first.email.upper())
    wanted = {"email": first.email.upper(), "currentPassword": PASSWORD}
    changed = other.call("PUT", f"/api/users/{other.id}", json=wanted)

    assert (made.status_code, error_of(made)) == (409, "email_taken")
    assert (changed.status_code, error_of(changed)) == (409, "email_taken")


def test_users_are_listed_and_found_with_the_number_of_their_keys(service: Service) -> None:
    accounts = [register(service, name=f"Zed {n}") for n in range(3)]
    accounts[1].make_key()
    admin = make_admin(service)

    first = admin.call("GET", "/api/users?q=zed&limit=2").json()
    rest = admin.call("GET", f"/api/users?q=ZED&limit=2&after={first['nextCursor']}").json()
    by_email = admin.call("GET", f"/api/users?q={accounts[0].email[:30]}").json()

    found = first["data"] + rest["data"]
    assert [user["id"] for user in found] == [account.id for account in reversed(accounts)]
    assert [user["keyCount"] for user in found] == [0, 1, 0]
    assert rest["nextCursor"] is None
    assert [user["id"] for user in by_email["data"]] == [accounts[0].id]
    assert "password" not in str(found)


@pytest.mark.parametrize("query", ["q=%00", "q=" + "x" * 321, "limit=0", "after=key_1"])
def test_a_wrong_query_is_refused(service: Service, query: str) -> None:
    response = service.call("GET", f"/api/users?{query}", headers=service.sign_in_admin())

    assert (response.status_code, error_of(response)) == (400, "invalid_request")


def test_users_see_and_change_themselves_without_their_role(service: Service) -> None:
    account = register(service)
    path = f"/api/users/{account.id}"
    email = f"{new_id().hex}@example.com"

    changed = account.call(
        "PUT", path, json={"name": "Ann", "email": email.upper(), "currentPassword": PASSWORD}
    )
    refused = account.call("PUT", path, json={"name": "Bob", "role": "admin"})
    password = account.call("PUT", path, json={"password": "another password"})

    assert (changed.json()["name"], changed.json()["email"]) == ("Ann", email)
    assert (refused.status_code, error_of(refused)) == (403, "forbidden")
    assert (password.status_code, error_of(password)) == (400, "invalid_request")
    assert account.call("GET", path).json() == changed.json()
    sign_in(service, email)


def test_changing_the_own_email_needs_the_password(service: Service) -> None:
    account = register(service)
    path, email = f"/api/users/{account.id}", f"{new_id().hex}@example.com"

    without = account.call("PUT", path, json={"email": email})
    wrong = account.call("PUT", path, json={"email": email, "currentPassword": "another one"})
    unchanged = account.call("PUT", path, json={"name": "Ann", "email": account.email.upper()})
    by_admin = make_admin(service).call("PUT", path, json={"email": email})

    assert (without.status_code, error_of(without)) == (400, "invalid_request")
    assert without.json()["error"]["param"] == "currentPassword"
    assert (wrong.status_code, error_of(wrong)) == (403, "invalid_credentials")
    assert (unchanged.status_code, unchanged.json()["email"]) == (200, account.email)
    assert (by_admin.status_code, by_admin.json()["email"]) == (200, email)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/users"), ("POST", "/api/users"), ("DELETE", "own")]
)
def test_a_customer_may_not_manage_users(service: Service, method: str, path: str) -> None:
    account = register(service)
    path = path.replace("own", f"/api/users/{account.id}")

    response = account.call(method, path, json={"email": "a@b.c", "password": PASSWORD})

    assert (response.status_code, error_of(response)) == (403, "forbidden")
    assert account.call("GET", "/api/auth/me").status_code == 200


@pytest.mark.parametrize("user_id", ["user_" + "0" * 32, "none", "key_" + "0" * 32, "user_%00"])
def test_an_unknown_user_is_not_found(service: Service, user_id: str) -> None:
    admin = make_admin(service)

    for method in ("GET", "PUT", "DELETE"):
        response = admin.call(method, f"/api/users/{user_id}", json={})
        assert (response.status_code, error_of(response)) == (404, "not_found")


def test_deleting_a_user_ends_the_keys_and_frees_the_email(service: Service) -> None:
    account, admin = register(service), make_admin(service)
    key = account.make_key()
    secret = {"Authorization": f"Bearer {key['secret']}"}
    assert service.call("GET", "/api/llm/models", headers=secret).status_code == 200

    assert admin.call("DELETE", f"/api/users/{account.id}").status_code == 204

    response = service.call("GET", "/api/llm/models", headers=secret)
    assert (response.status_code, error_of(response)) == (401, "invalid_api_key")
    assert admin.call("GET", f"/api/keys/{key['id']}").status_code == 404
    assert admin.call("GET", f"/api/users/{account.id}").status_code == 404
    assert register(service, email=account.email).id != account.id
