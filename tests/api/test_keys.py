from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from models.api_key import ApiKey
from models.audit import AuditEntry
from models.base import open_database, sessions, utc_now
from tests.api.accounts import register
from tests.api.test_auth import error_of
from tests.service import Service, wait_until


@pytest.fixture
def customer(service: Service) -> dict[str, str]:
    """The headers of a signed-in customer."""
    return register(service).headers


def make(service: Service, headers: dict[str, str], **body: Any) -> Any:
    return service.call("POST", "/api/keys", json={"name": "k", **body}, headers=headers)


def test_a_new_key_shows_its_secret_once(service: Service, customer: dict[str, str]) -> None:
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
def test_a_customer_cannot_raise_the_own_limits(
    service: Service, customer: dict[str, str], change: dict[str, int]
) -> None:
    answer = make(service, customer, **change)

    assert (answer.status_code, error_of(answer)) == (403, "forbidden")


def test_a_customer_cannot_make_keys_for_others(service: Service, customer: dict[str, str]) -> None:
    admin_id = service.call("GET", "/api/auth/me", headers=service.sign_in_admin()).json()["id"]

    answer = make(service, customer, userId=admin_id)

    assert (answer.status_code, error_of(answer)) == (403, "forbidden")


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
    answer = make(service, customer, **body)

    assert (answer.status_code, error_of(answer)) == (400, "invalid_request")
    assert answer.json()["error"]["param"] == param


def test_the_audit_trail_says_who_made_a_key_from_where(service: Service) -> None:
    key = service.make_key(name="audited")

    engine = open_database(service.settings)
    with sessions(engine)() as session:
        made = session.query(ApiKey).filter_by(name="audited").one()
        entry = session.query(AuditEntry).filter_by(target_id=made.id).one()
    engine.dispose()

    assert (entry.action, entry.address) == ("key.create", "127.0.0.1")
    assert entry.actor_id == made.user_id
    assert key["secret"] not in str(entry.details)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "limit=201", "limit=000000000200", "after=nonsense"]
)
def test_a_wrong_page_is_refused(service: Service, customer: dict[str, str], query: str) -> None:
    answer = service.call("GET", f"/api/keys?{query}", headers=customer)

    assert (answer.status_code, error_of(answer)) == (400, "invalid_request")


def call(service: Service, headers: dict[str, str], method: str, path: str, **body: Any) -> Any:
    return service.call(method, path, headers=headers, json=body or None)


def use(service: Service, secret: str) -> tuple[int, str | None]:
    """Return how a call with this secret ends."""
    answer = service.call("GET", "/api/llm/models", headers={"Authorization": f"Bearer {secret}"})
    return answer.status_code, error_of(answer) if answer.status_code >= 400 else None


def test_a_key_has_every_field_that_is_documented(
    service: Service, customer: dict[str, str]
) -> None:
    made = make(service, customer, tokenLimit=1000, monthlyTokenLimit=9000, maxInFlight=2).json()

    shown = call(service, customer, "GET", f"/api/keys/{made['id']}").json()

    assert set(made) - set(shown) == {"secret"}
    assert shown == {
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


def test_a_change_changes_what_it_names(service: Service, customer: dict[str, str]) -> None:
    made = make(service, customer, tokenLimit=1000).json()
    path = f"/api/keys/{made['id']}"

    changed = call(
        service, customer, "PUT", path, name="new", rateLimit=5, expiresAt="2100-01-01T00:00:00Z"
    )

    assert changed.status_code == 200
    shown = call(service, customer, "GET", path).json()
    assert shown == changed.json()
    assert shown == {
        **{name: value for name, value in made.items() if name != "secret"},
        "name": "new",
        "rateLimit": 5,
        "expiresAt": "2100-01-01T00:00:00.000Z",
    }
    assert call(service, customer, "PUT", path, expiresAt=None).json()["expiresAt"] is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"isActive": None}, "isActive"),
        ({"priority": None}, "priority"),
        ({"rateLimit": 0}, "rateLimit"),
        ({"maxInFlight": -1}, "maxInFlight"),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
        ({"userId": "user_1"}, "userId"),
        ({"secretHash": "x"}, "secretHash"),
    ],
)
def test_a_wrong_change_is_refused_and_changes_nothing(
    service: Service, customer: dict[str, str], body: dict[str, Any], param: str
) -> None:
    path = f"/api/keys/{make(service, customer).json()['id']}"
    before = call(service, customer, "GET", path).json()

    answer = call(service, customer, "PUT", path, **{"name": "changed", **body})

    assert (answer.status_code, error_of(answer)) == (400, "invalid_request")
    assert answer.json()["error"]["param"] == param
    assert call(service, customer, "GET", path).json() == before


def test_a_key_stops_at_once_when_it_is_switched_off_and_works_again(
    service: Service, customer: dict[str, str]
) -> None:
    made = make(service, customer).json()
    path = f"/api/keys/{made['id']}"

    assert use(service, made["secret"]) == (200, None)
    call(service, customer, "PUT", path, isActive=False)
    assert use(service, made["secret"]) == (403, "key_inactive")
    call(service, customer, "PUT", path, isActive=True)
    assert use(service, made["secret"]) == (200, None)


def test_a_deleted_key_is_gone_for_good(service: Service, customer: dict[str, str]) -> None:
    made = make(service, customer).json()
    path = f"/api/keys/{made['id']}"

    deleted = call(service, customer, "DELETE", path)

    assert (deleted.status_code, deleted.content) == (204, b"")
    assert use(service, made["secret"]) == (401, "invalid_api_key")
    with_id = {**customer, "x-api-key-id": made["id"]}
    assert (
        service.call("POST", "/api/llm/generate", headers=with_id, json={"prompt": "x"}).status_code
        == 401
    )
    for method in ("GET", "PUT", "DELETE"):
        assert call(service, customer, method, path, name="x").status_code == 404
    assert call(service, customer, "POST", f"{path}/rotate", graceSeconds=1).status_code == 404
    assert made["id"] not in service.call("GET", "/api/keys?limit=200", headers=customer).text


def test_a_key_that_has_expired_is_refused(service: Service, customer: dict[str, str]) -> None:
    soon = (utc_now() + timedelta(seconds=5)).isoformat()
    made = make(service, customer, expiresAt=soon).json()

    assert use(service, made["secret"]) == (200, None)
    wait_until(lambda: use(service, made["secret"]) == (403, "key_expired"), 20)


def test_after_a_rotation_the_old_secret_ends_with_its_grace(
    service: Service, customer: dict[str, str]
) -> None:
    made = make(service, customer).json()

    rotated = call(
        service, customer, "POST", f"/api/keys/{made['id']}/rotate", graceSeconds=5
    ).json()

    assert (rotated["id"], rotated["prefix"]) == (made["id"], made["prefix"])
    assert rotated["secret"] != made["secret"]
    ends = datetime.fromisoformat(rotated["previousSecretExpiresAt"])
    assert use(service, rotated["secret"]) == (200, None)
    assert use(service, made["secret"]) == (200, None)
    wait_until(lambda: use(service, made["secret"]) == (401, "invalid_api_key"), 20)
    assert utc_now() >= ends
    assert use(service, rotated["secret"]) == (200, None)


def test_without_a_grace_the_old_secret_ends_at_once(
    service: Service, customer: dict[str, str]
) -> None:
    made = make(service, customer).json()

    rotated = call(
        service, customer, "POST", f"/api/keys/{made['id']}/rotate", graceSeconds=0
    ).json()

    assert rotated["previousSecretExpiresAt"] is None
    assert use(service, made["secret"]) == (401, "invalid_api_key")
    assert use(service, rotated["secret"]) == (200, None)


@pytest.mark.parametrize("seconds", [-1, 7 * 24 * 3600 + 1, "soon", None])
def test_a_grace_is_at_most_a_week(
    service: Service, customer: dict[str, str], seconds: object
) -> None:
    made = make(service, customer).json()

    answer = call(service, customer, "POST", f"/api/keys/{made['id']}/rotate", graceSeconds=seconds)

    assert (answer.status_code, error_of(answer)) == (400, "invalid_request")
    assert use(service, made["secret"]) == (200, None)


def test_an_admin_changes_a_customers_key_beyond_the_defaults_and_the_customer_only_lowers_it(
    service: Service, customer: dict[str, str]
) -> None:
    admin = service.sign_in_admin()
    path = f"/api/keys/{make(service, customer).json()['id']}"

    raised = call(service, admin, "PUT", path, rateLimit=5000, priority=4)
    kept = call(service, customer, "PUT", path, rateLimit=5000, priority=4, name="kept")
    lowered = call(service, customer, "PUT", path, rateLimit=100)
    again = call(service, customer, "PUT", path, rateLimit=101)
    favoured = call(service, customer, "PUT", path, priority=5)

    assert (raised.json()["rateLimit"], raised.json()["priority"]) == (5000, 4)
    assert kept.status_code == 200
    assert lowered.json()["rateLimit"] == 100
    assert (again.status_code, error_of(again)) == (403, "forbidden")
    assert (favoured.status_code, error_of(favoured)) == (403, "forbidden")


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
    nobody = service.call("GET", f"/api/keys?userId=user_{'0' * 32}", headers=admin)
    assert (nobody.status_code, error_of(nobody)) == (404, "not_found")
