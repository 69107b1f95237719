"""A limit or a deactivation that an admin set on a customer's key, only an admin lifts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from models.database.base import utc_now
from models.jobs.serializer import format_time
from tests.support.http.customers import (
    DEFAULT_KEY_LIMITS,
    DEFAULT_LIMITS,
    Call,
    limits_of,
)

#: The limits that an admin sets, lower than the defaults.
LOWERED = {"rateLimit": 5, "tokenLimit": 50, "monthlyTokenLimit": 500, "maxInFlight": 2}


@pytest.fixture
def app(app_with: Callable[..., FlaskClient]) -> FlaskClient:
    return app_with(**DEFAULT_LIMITS)


@pytest.fixture
def path(customer: Call) -> str:
    """The path of a customer's key."""
    return f"/api/keys/{customer('POST', '/api/keys', name='k').get_json()['id']}"


def refused(response: Any) -> tuple[int, str, str]:
    error = response.get_json()["error"]
    return response.status_code, error["code"], error["param"]


def in_hours(hours: int) -> str:
    return str(format_time(utc_now() + timedelta(hours=hours)))


def test_only_an_admin_switches_on_a_key_that_an_admin_switched_off(
    customer: Call, administrator: Call, path: str
) -> None:
    off = administrator("PUT", path, isActive=False)

    assert off.get_json()["setByAdmin"] == {"isActive": False}
    assert refused(customer("PUT", path, isActive=True)) == (403, "forbidden", "isActive")
    assert customer("PUT", path, isActive=False, name="mine").status_code == 200
    assert customer("GET", path).get_json()["isActive"] is False
    on = administrator("PUT", path, isActive=True)
    assert on.get_json()["setByAdmin"] == {}
    assert customer("PUT", path, isActive=False).status_code == 200
    assert customer("PUT", path, isActive=True).status_code == 200


def test_an_admin_can_hold_off_a_key_that_its_owner_has_switched_off(
    customer: Call, administrator: Call, path: str
) -> None:
    customer("PUT", path, isActive=False)

    administrator("PUT", path, isActive=False)

    assert refused(customer("PUT", path, isActive=True)) == (403, "forbidden", "isActive")
    entry = administrator("GET", "/api/admin/activity?limit=1").get_json()["data"][0]
    assert (entry["action"], entry["details"]) == ("key.update", {"held": "isActive"})


@pytest.mark.parametrize("name", LOWERED)
def test_a_customer_may_go_below_the_limit_that_an_admin_set_and_not_above(
    customer: Call, administrator: Call, path: str, name: str
) -> None:
    held = LOWERED[name]
    administrator("PUT", path, **{name: held})

    assert refused(customer("PUT", path, **{name: held + 1})) == (403, "forbidden", name)
    assert customer("PUT", path, **{name: held - 1}).status_code == 200
    assert customer("PUT", path, **{name: held}).status_code == 200
    assert limits_of(customer("PUT", path, **{name: None})) == {**DEFAULT_KEY_LIMITS, name: held}
    administrator("PUT", path, **{name: DEFAULT_KEY_LIMITS[name]})
    assert (
        limits_of(customer("PUT", path, **{name: DEFAULT_KEY_LIMITS[name]})) == DEFAULT_KEY_LIMITS
    )


def test_a_customer_may_only_bring_forward_the_expiry_that_an_admin_set(
    customer: Call, administrator: Call, path: str
) -> None:
    held = in_hours(5)
    administrator("PUT", path, expiresAt=held)

    for wanted in (None, in_hours(6)):
        assert refused(customer("PUT", path, expiresAt=wanted)) == (403, "forbidden", "expiresAt")
    assert customer("PUT", path, expiresAt=in_hours(4)).status_code == 200
    assert customer("PUT", path, expiresAt=held).status_code == 200
    administrator("PUT", path, expiresAt=None)
    assert customer("PUT", path, expiresAt=in_hours(6)).status_code == 200


def test_the_limits_of_a_key_that_an_admin_made_for_a_customer_are_set_by_the_admin(
    customer: Call, administrator: Call
) -> None:
    owner = customer("GET", "/api/auth/me").get_json()["id"]
    made = administrator("POST", "/api/keys", name="k", userId=owner, **LOWERED).get_json()

    assert made["setByAdmin"] == LOWERED
    path = f"/api/keys/{made['id']}"
    assert refused(customer("PUT", path, rateLimit=6)) == (403, "forbidden", "rateLimit")


def test_rotating_the_secret_lifts_no_limit(customer: Call, administrator: Call, path: str) -> None:
    administrator("PUT", path, isActive=False, rateLimit=5)

    rotated = customer("POST", f"{path}/rotate", graceSeconds=0).get_json()

    assert rotated["setByAdmin"] == {"isActive": False, "rateLimit": 5}
    assert (rotated["isActive"], rotated["rateLimit"]) == (False, 5)


def test_deleting_a_key_and_making_another_lifts_no_limit(
    customer: Call, administrator: Call, path: str
) -> None:
    administrator("PUT", path, isActive=False, **LOWERED)
    assert customer("DELETE", path).status_code == 204

    above = customer("POST", "/api/keys", name="k", rateLimit=6)
    second = customer("POST", "/api/keys", name="k").get_json()
    third = customer("POST", "/api/keys", name="k").get_json()

    assert refused(above) == (403, "forbidden", "rateLimit")
    assert (second["setByAdmin"], second["isActive"]) == (LOWERED, True)
    assert {name: second[name] for name in LOWERED} == LOWERED
    assert third["setByAdmin"] == {}  # the second key has already taken the limits over


def test_an_admins_own_key_holds_nothing(administrator: Call) -> None:
    made = administrator("POST", "/api/keys", name="k", rateLimit=1).get_json()
    changed = administrator("PUT", f"/api/keys/{made['id']}", isActive=False, maxInFlight=1)

    assert made["setByAdmin"] == changed.get_json()["setByAdmin"] == {}
