from __future__ import annotations

from typing import Any

from tests.support.http.accounts import PASSWORD, Account, make_admin, register, sign_in
from tests.support.http.errors import error_of
from tests.support.service import Service

NEW = "another password"


def change(account: Account, current: str = PASSWORD, new: str = NEW) -> Any:
    return account.call(
        "POST", "/api/auth/change-password", json={"currentPassword": current, "newPassword": new}
    )


def me(account: Account) -> int:
    return int(account.call("GET", "/api/auth/me").status_code)


def refresh(account: Account) -> Any:
    body = {"refreshToken": account.refresh_token}
    return account.service.call("POST", "/api/auth/refresh", json=body)


def test_a_new_password_ends_every_token_but_the_new_ones(service: Service) -> None:
    account = register(service)
    elsewhere = sign_in(service, account.email)

    response = change(account)

    assert response.status_code == 200
    assert set(response.json()) == {"token", "refreshToken", "user"}
    assert [me(account), me(elsewhere)] == [401, 401]
    assert refresh(elsewhere).status_code == 401
    now = {"Authorization": f"Bearer {response.json()['token']}"}
    assert service.call("GET", "/api/auth/me", headers=now).status_code == 200
    old = service.call(
        "POST", "/api/auth/login", json={"email": account.email, "password": PASSWORD}
    )
    assert old.status_code == 401
    sign_in(service, account.email, NEW)


def test_without_the_present_password_nothing_changes(service: Service) -> None:
    account = register(service)

    response = change(account, current="wrong")

    assert (response.status_code, error_of(response)) == (403, "invalid_credentials")
    assert me(account) == 200
    sign_in(service, account.email)


def test_a_new_password_has_at_least_eight_characters(service: Service) -> None:
    account = register(service)

    response = change(account, new="short")

    assert (response.status_code, error_of(response)) == (400, "invalid_request")
    assert response.json()["error"]["param"] == "newPassword"


def test_the_present_password_cannot_be_guessed_without_end(service: Service) -> None:
    account = register(service)

    responses = [change(account, current=f"guess {n}") for n in range(11)]

    assert [response.status_code for response in responses] == [403] * 10 + [429]
    assert error_of(responses[-1]) == "too_many_attempts"
    assert error_of(change(account)) == "too_many_attempts"


def test_a_new_role_ends_every_token(service: Service) -> None:
    admin = make_admin(service)
    account = register(service)

    for role in ("admin", "customer"):
        signed_in = sign_in(service, account.email)
        path = f"/api/users/{account.id}"
        assert admin.call("PUT", path, json={"role": role}).json()["role"] == role
        assert me(signed_in) == 401
        assert refresh(signed_in).status_code == 401


def test_an_unchanged_role_ends_no_token(service: Service) -> None:
    account = register(service)

    make_admin(service).call("PUT", f"/api/users/{account.id}", json={"role": "customer"})

    assert me(account) == 200


def test_the_end_of_a_user_ends_every_token(service: Service) -> None:
    account = register(service)

    assert make_admin(service).call("DELETE", f"/api/users/{account.id}").status_code == 204

    assert me(account) == 401
    assert error_of(refresh(account)) == "invalid_token"
    response = service.call(
        "POST", "/api/auth/login", json={"email": account.email, "password": PASSWORD}
    )
    assert (response.status_code, error_of(response)) == (401, "invalid_credentials")


def test_a_password_set_by_an_admin_ends_every_token(service: Service) -> None:
    account = register(service)

    changed = make_admin(service).call("PUT", f"/api/users/{account.id}", json={"password": NEW})

    assert changed.status_code == 200
    assert me(account) == 401
    sign_in(service, account.email, NEW)
