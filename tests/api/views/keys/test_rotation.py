"""The rotation of a key's secret: the old one is accepted until its grace ends."""

from __future__ import annotations

from datetime import datetime

import pytest

from models.database.base import utc_now
from tests.support.http.errors import error_of
from tests.support.http.keys import call, make, use
from tests.support.polling import wait_until
from tests.support.service import Service


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

    response = call(
        service, customer, "POST", f"/api/keys/{made['id']}/rotate", graceSeconds=seconds
    )

    assert (response.status_code, error_of(response)) == (400, "invalid_request")
    assert use(service, made["secret"]) == (200, None)
