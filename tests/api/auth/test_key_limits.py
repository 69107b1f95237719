"""The limits that a customer may set on a key when the service has default limits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask.testing import FlaskClient

from tests.support.http.customers import (
    DEFAULT_KEY_LIMITS,
    DEFAULT_LIMITS,
    Call,
    limits_of,
)


@pytest.fixture
def app(app_with: Callable[..., FlaskClient]) -> FlaskClient:
    return app_with(**DEFAULT_LIMITS)


@pytest.mark.parametrize("body", [{}, dict.fromkeys(DEFAULT_KEY_LIMITS)], ids=["left out", "null"])
def test_a_customers_key_has_the_defaults(customer: Call, body: dict[str, None]) -> None:
    made = customer("POST", "/api/keys", name="k", **body)

    assert made.status_code == 201
    assert limits_of(made) == DEFAULT_KEY_LIMITS


@pytest.mark.parametrize("name", DEFAULT_KEY_LIMITS)
def test_a_customer_goes_below_a_default_and_not_above(customer: Call, name: str) -> None:
    below = customer("POST", "/api/keys", name="k", **{name: DEFAULT_KEY_LIMITS[name] - 1})
    above = customer("POST", "/api/keys", name="k", **{name: DEFAULT_KEY_LIMITS[name] + 1})
    path = f"/api/keys/{below.get_json()['id']}"

    assert limits_of(below) == {**DEFAULT_KEY_LIMITS, name: DEFAULT_KEY_LIMITS[name] - 1}
    assert (above.status_code, above.get_json()["error"]["param"]) == (403, name)
    assert customer("PUT", path, **{name: DEFAULT_KEY_LIMITS[name] + 1}).status_code == 403
    assert limits_of(customer("GET", path)) == limits_of(below)
    assert (
        limits_of(customer("PUT", path, **{name: DEFAULT_KEY_LIMITS[name]})) == DEFAULT_KEY_LIMITS
    )


@pytest.mark.parametrize("name", DEFAULT_KEY_LIMITS)
def test_null_gives_a_customers_key_the_default(customer: Call, name: str) -> None:
    made = customer("POST", "/api/keys", name="k", **{name: 1})

    changed = customer("PUT", f"/api/keys/{made.get_json()['id']}", **{name: None})

    assert limits_of(changed) == DEFAULT_KEY_LIMITS


def test_an_admin_lifts_limits_by_null_and_a_customer_keeps_what_was_granted(
    customer: Call, administrator: Call
) -> None:
    path = f"/api/keys/{customer('POST', '/api/keys', name='k').get_json()['id']}"
    without = {"tokenLimit": None, "monthlyTokenLimit": None, "maxInFlight": None}

    granted = administrator("PUT", path, **without)
    unchanged = customer("PUT", path, **without)
    lowered = customer("PUT", path, tokenLimit=9_000_000)
    raised = customer("PUT", path, tokenLimit=9_000_001)

    assert limits_of(granted) == limits_of(unchanged) == {**DEFAULT_KEY_LIMITS, **without}
    assert lowered.get_json()["tokenLimit"] == 9_000_000
    assert raised.status_code == 403


def test_an_admins_own_key_has_the_defaults_unless_the_admin_sets_limits(
    administrator: Call,
) -> None:
    plain = administrator("POST", "/api/keys", name="k")
    free = administrator("POST", "/api/keys", name="k", rateLimit=900, tokenLimit=None)

    assert limits_of(plain) == DEFAULT_KEY_LIMITS
    assert limits_of(free) == {**DEFAULT_KEY_LIMITS, "rateLimit": 900, "tokenLimit": None}


def test_the_number_of_a_customers_keys_is_bounded_also_for_concurrent_requests(
    customer: Call, administrator: Call
) -> None:
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: customer("POST", "/api/keys", name="k"), range(8)))

    assert sorted(response.status_code for response in responses) == [201] * 3 + [403] * 5
    made = next(response for response in responses if response.status_code == 201).get_json()
    assert customer("DELETE", f"/api/keys/{made['id']}").status_code == 204
    assert customer("POST", "/api/keys", name="k").status_code == 201
    more = administrator("POST", "/api/keys", name="k", userId=made["userId"])
    assert more.status_code == 201
