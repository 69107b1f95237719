"""Keys as customers and admins create, read and list them."""

from __future__ import annotations

from typing import Any

import pytest

from models.accounts.api_key import ApiKey
from models.accounts.audit import AuditEntry
from tests.support.http.errors import error_of
from tests.support.http.keys import call, make
from tests.support.service import Service


def test_the_secret_of_a_new_key_is_returned_once(
    service: Service, customer: dict[str, str]
) -> None:
    made = make(service, customer)

    assert made.status_code == 201
    assert made.json()["secret"].startswith(made.json()["prefix"] + "_")
    assert made.json()["rateLimit"] == 60
    listed = service.call("GET", "/api/keys", headers=customer)
    assert made.json()["secret"] not in listed.text
    assert made.json()["id"] in listed.text


def test_a_customer_sees_own_keys_only_and_an_admin_all(
    service: Service, customer: dict[str, str]
) -> None:
    mine, admins = make(service, customer).json(), service.make_key()

    seen = service.call("GET", "/api/keys?limit=200", headers=customer).text
    all_seen = service.call("GET", "/api/keys?limit=200", headers=service.sign_in_admin()).text

    assert mine["id"] in seen
    assert admins["id"] not in seen
    assert mine["id"] in all_seen
    assert admins["id"] in all_seen


def test_a_list_is_paged_by_cursor(service: Service, customer: dict[str, str]) -> None:
    made = [make(service, customer).json()["id"] for _ in range(3)]

    first = service.call("GET", "/api/keys?limit=2", headers=customer).json()
    rest = service.call(
        "GET", f"/api/keys?limit=200&after={first['nextCursor']}", headers=customer
    ).json()

    assert [key["id"] for key in first["data"]] == [made[2], made[1]]
    assert made[0] in [key["id"] for key in rest["data"]]
    assert rest["nextCursor"] is None


@pytest.mark.parametrize("change", [{"rateLimit": 61}, {"priority": 2}], ids=str)
def test_a_customer_cannot_raise_the_limits_of_a_key(
    service: Service, customer: dict[str, str], change: dict[str, int]
) -> None:
    response = make(service, customer, **change)

    assert (response.status_code, error_of(response)) == (403, "forbidden")


def test_a_customer_cannot_make_keys_for_others(service: Service, customer: dict[str, str]) -> None:
    admin_id = service.call("GET", "/api/auth/me", headers=service.sign_in_admin()).json()["id"]

    response = make(service, customer, userId=admin_id)

    assert (response.status_code, error_of(response)) == (403, "forbidden")


def test_an_admin_makes_keys_for_others(service: Service, customer: dict[str, str]) -> None:
    me = service.call("GET", "/api/auth/me", headers=customer).json()

    made = make(service, service.sign_in_admin(), userId=me["id"], rateLimit=5000, priority=3)

    assert made.status_code == 201
    assert (made.json()["userId"], made.json()["priority"]) == (me["id"], 3)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": ""}, "name"),
        ({"name": " "}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "\u200b"}, "name"),
        ({"name": "\u202egpj"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"rateLimit": 0}, "rateLimit"),
        ({"rateLimit": "many"}, "rateLimit"),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
        ({"expiresAt": "9999-12-31T23:59:59-14:00"}, "expiresAt"),
        ({"priority": 0}, "priority"),
        ({"surprise": 5}, "surprise"),
    ],
)
def test_a_wrong_field_is_named(
    service: Service, customer: dict[str, str], body: dict[str, Any], param: str
) -> None:
    response = make(service, customer, **body)

    assert (response.status_code, error_of(response)) == (400, "invalid_request")
    assert response.json()["error"]["param"] == param


def test_the_audit_trail_says_who_made_a_key_from_where(service: Service) -> None:
    key = service.make_key(name="audited")

    with service.sessions() as session:
        made = session.query(ApiKey).filter_by(name="audited").one()
        entry = session.query(AuditEntry).filter_by(target_id=made.id).one()

    assert (entry.action, entry.address) == ("key.create", "127.0.0.1")
    assert entry.actor_id == made.user_id
    assert key["secret"] not in str(entry.details)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "limit=201", "limit=000000000200", "after=nonsense"]
)
def test_a_wrong_page_is_refused(service: Service, customer: dict[str, str], query: str) -> None:
    response = service.call("GET", f"/api/keys?{query}", headers=customer)

    assert (response.status_code, error_of(response)) == (400, "invalid_request")


def test_a_key_has_every_field_that_is_documented(
    service: Service, customer: dict[str, str]
) -> None:
    made = make(service, customer, tokenLimit=1000, monthlyTokenLimit=9000, maxInFlight=2).json()

    key_body = call(service, customer, "GET", f"/api/keys/{made['id']}").json()

    assert set(made) - set(key_body) == {"secret"}
    assert key_body == {
        "id": made["id"],
        "userId": made["userId"],
        "name": "k",
        "prefix": made["prefix"],
        "rateLimit": 60,
        "tokenLimit": 1000,
        "monthlyTokenLimit": 9000,
        "maxInFlight": 2,
        "priority": 1,
        "isActive": True,
        "setByAdmin": {},
        "expiresAt": None,
        "previousSecretExpiresAt": None,
        "lastUsed": None,
        "createdAt": made["createdAt"],
    }


def test_an_admin_lists_the_keys_of_one_user(service: Service, customer: dict[str, str]) -> None:
    mine = make(service, customer).json()
    admins, admin = service.make_key(), service.sign_in_admin()
    path = f"/api/keys?limit=200&userId={mine['userId']}"

    seen = service.call("GET", path, headers=admin).text

    assert mine["id"] in seen
    assert admins["id"] not in seen
    assert service.call("GET", path, headers=customer).status_code == 200
    others = service.call("GET", f"/api/keys?userId={admins['userId']}", headers=customer)
    assert (others.status_code, error_of(others)) == (404, "not_found")
    of_unknown = service.call("GET", f"/api/keys?userId=user_{'0' * 32}", headers=admin)
    assert (of_unknown.status_code, error_of(of_unknown)) == (404, "not_found")
