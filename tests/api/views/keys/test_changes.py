"""Changes of a key: its fields, its limits, and its end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from models.database.base import utc_now
from tests.support.http.errors import error_of
from tests.support.http.keys import call, make, use
from tests.support.polling import wait_until
from tests.support.service import Service


def test_a_change_affects_only_the_fields_that_it_names(
    service: Service, customer: dict[str, str]
) -> None:
    made = make(service, customer, tokenLimit=1000).json()
    path = f"/api/keys/{made['id']}"

    changed = call(
        service, customer, "PUT", path, name="new", rateLimit=5, expiresAt="2100-01-01T00:00:00Z"
    )

    assert changed.status_code == 200
    key_body = call(service, customer, "GET", path).json()
    assert key_body == changed.json()
    assert key_body == {
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

    response = call(service, customer, "PUT", path, **{"name": "changed", **body})

    assert (response.status_code, error_of(response)) == (400, "invalid_request")
    assert response.json()["error"]["param"] == param
    assert call(service, customer, "GET", path).json() == before


def test_switching_a_key_off_and_on_takes_effect_at_once(
    service: Service, customer: dict[str, str]
) -> None:
    made = make(service, customer).json()
    path = f"/api/keys/{made['id']}"

    assert use(service, made["secret"]) == (200, None)
    call(service, customer, "PUT", path, isActive=False)
    assert use(service, made["secret"]) == (403, "key_inactive")
    call(service, customer, "PUT", path, isActive=True)
    assert use(service, made["secret"]) == (200, None)


def test_a_deleted_key_is_refused_everywhere(service: Service, customer: dict[str, str]) -> None:
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


def test_a_customer_may_only_lower_the_limits_that_an_admin_raised(
    service: Service, customer: dict[str, str]
) -> None:
    admin = service.sign_in_admin()
    path = f"/api/keys/{make(service, customer).json()['id']}"

    raised = call(service, admin, "PUT", path, rateLimit=5000, priority=4)
    unchanged = call(service, customer, "PUT", path, rateLimit=5000, priority=4, name="mine")
    lowered = call(service, customer, "PUT", path, rateLimit=100)
    above = call(service, customer, "PUT", path, rateLimit=101)
    favoured = call(service, customer, "PUT", path, priority=5)

    assert (raised.json()["rateLimit"], raised.json()["priority"]) == (5000, 4)
    assert unchanged.status_code == 200
    assert lowered.json()["rateLimit"] == 100
    assert (above.status_code, error_of(above)) == (403, "forbidden")
    assert (favoured.status_code, error_of(favoured)) == (403, "forbidden")
