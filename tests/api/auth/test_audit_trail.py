"""Each change of a key or user leaves one entry in the audit trail, without secrets."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from core.ids import new_id
from models.database.base import utc_now
from tests.support.http.accounts import PASSWORD, Account, make_admin, register, sign_in
from tests.support.http.errors import error_of
from tests.support.service import Service


def activity(admin: Account, query: str = "") -> list[dict[str, Any]]:
    response = admin.call("GET", f"/api/admin/activity?{query}")
    assert response.status_code == 200, response.text
    return list(response.json()["data"])


def test_every_change_is_recorded_with_actor_target_and_values(service: Service) -> None:
    admin, account = make_admin(service), register(service, name="Ann")
    key = account.make_key(name="first")
    path = f"/api/keys/{key['id']}"
    account.call("PUT", path, json={"name": "second", "isActive": False, "rateLimit": 60})
    rotated = account.call("POST", f"{path}/rotate", json={"graceSeconds": 60}).json()
    account.call("DELETE", path)
    admin.call("PUT", f"/api/users/{account.id}", json={"name": "Bob", "password": "new password"})
    account = sign_in(service, account.email, "new password")
    account.call(
        "POST",
        "/api/auth/change-password",
        json={"currentPassword": "new password", "newPassword": PASSWORD},
    )
    wrong = {"email": account.email, "password": "a wrong password"}
    service.call("POST", "/api/auth/login", json=wrong)
    admin.call("PUT", f"/api/users/{account.id}", json={"role": "admin"})
    admin.call("DELETE", f"/api/users/{account.id}")

    of_user = activity(admin, f"target={account.id}")
    of_key = activity(admin, f"target={key['id']}")

    assert [(entry["action"], entry["actorId"]) for entry in of_user] == [
        ("user.delete", admin.id),
        ("user.update", admin.id),
        ("auth.login_failed", None),
        ("user.change_password", account.id),
        ("user.update", admin.id),
        ("user.register", account.id),
    ]
    assert [entry["details"] for entry in of_user] == [
        {"email": account.email, "role": "admin", "keys": 0, "jobs": 0, "batches": 0},
        {"role": {"from": "customer", "to": "admin"}},
        {},
        {},
        {"name": {"from": "Ann", "to": "Bob"}, "password": "changed"},
        {"email": account.email, "name": "Ann", "role": "customer"},
    ]
    assert [(entry["action"], entry["actorEmail"]) for entry in of_key] == [
        ("key.delete", account.email),
        ("key.rotate", account.email),
        ("key.update", account.email),
        ("key.create", account.email),
    ]
    assert of_key[2]["details"] == {
        "name": {"from": "first", "to": "second"},
        "isActive": {"from": True, "to": False},
        "jobs": 0,
        "batches": 0,
    }
    for entry in of_user + of_key:
        assert entry["address"] == "127.0.0.1"
        assert utc_now() - datetime.fromisoformat(entry["at"]) < timedelta(minutes=1)
    for secret in (key["secret"], rotated["secret"], PASSWORD, "new password", "a wrong password"):
        assert secret not in json.dumps(of_user + of_key)
    assert "argon2" not in json.dumps(of_user)


def test_changes_of_an_admin_are_recorded(service: Service) -> None:
    admin = make_admin(service)
    body = {"email": f"{new_id().hex}@example.com", "password": PASSWORD, "role": "admin"}
    user = admin.call("POST", "/api/users", json=body).json()
    key = admin.make_key(userId=user["id"], rateLimit=500)

    entries = activity(admin, f"actor={admin.id}")

    assert [(entry["action"], entry["targetId"]) for entry in entries] == [
        ("key.create", key["id"]),
        ("user.create", user["id"]),
    ]
    assert entries[0]["details"]["rateLimit"] == 500


def test_a_refused_or_empty_change_leaves_no_entry(service: Service) -> None:
    admin, account = make_admin(service), register(service)
    key = account.make_key()
    path = f"/api/keys/{key['id']}"

    account.call("PUT", path, json={"name": "other", "rateLimit": 61})
    account.call("PUT", path, json={"name": key["name"]})
    account.call("PUT", path, json={})
    account.call("POST", f"{path}/rotate", json={"graceSeconds": -1})
    account.call("PUT", f"/api/users/{account.id}", json={"role": "admin"})
    account.call("DELETE", f"/api/users/{account.id}")

    actions = [entry["action"] for entry in activity(admin, f"actor={account.id}")]
    assert actions == ["key.create", "user.register"]


def test_a_failed_sign_in_is_recorded_without_its_input(service: Service) -> None:
    admin = make_admin(service)
    typed = f"my password {new_id().hex}"

    service.call("POST", "/api/auth/login", json={"email": typed, "password": typed})

    latest = activity(admin, "action=auth.login_failed&limit=1")[0]
    assert (latest["targetId"], latest["actorId"], latest["details"]) == (None, None, {})
    assert latest["address"] == "127.0.0.1"


def test_activity_is_paged_and_filtered(service: Service) -> None:
    admin, account = make_admin(service), register(service)
    keys = [account.make_key()["id"] for _ in range(3)]
    began = activity(admin, f"target={keys[1]}")[0]["at"]
    query = f"actor={account.id}&action=key.create"

    first = admin.call("GET", f"/api/admin/activity?{query}&limit=2").json()
    rest = admin.call(
        "GET", f"/api/admin/activity?{query}&limit=2&after={first['nextCursor']}"
    ).json()
    since = activity(admin, f"{query}&from={quote(began)}")
    until = activity(admin, f"{query}&to={quote(began)}")

    assert [entry["targetId"] for entry in first["data"] + rest["data"]] == keys[::-1]
    assert rest["nextCursor"] is None
    assert [entry["targetId"] for entry in since] == [keys[2], keys[1]]
    assert [entry["targetId"] for entry in until] == [keys[0]]


@pytest.mark.parametrize(
    "query",
    [
        "actor=nobody",
        "target=gen_1",
        "action=" + "x" * 65,
        "action=%00",
        "from=soon",
        "to=0001-01-01",
        "from=9999-12-31T23:59:59-10:00",
        "from=1969-12-31",
        "after=x",
    ],
)
def test_a_wrong_filter_is_refused(service: Service, query: str) -> None:
    response = service.call("GET", f"/api/admin/activity?{query}", headers=service.sign_in_admin())

    assert (response.status_code, error_of(response)) == (400, "invalid_request")
    assert response.json()["error"]["param"] == query.partition("=")[0]
