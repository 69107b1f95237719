"""A new key takes over the month's usage of its owner's deleted keys."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import redis
from flask.testing import FlaskClient

from core.ids import Prefix, parse_id
from models.accounts.api_key import ApiKey
from models.accounts.user import User
from models.database.base import SessionFactory, utc_now
from models.jobs.job import JobState
from models.usage.usage import record_usages
from tests.support.factories.rows import ADMIN_EMAIL, ADMIN_PASSWORD, add_job
from tests.support.http.customers import Call, sign_in_as

MONTH = 3000

#: Records tokens that a key used, some days ago.
Use = Callable[..., None]


@pytest.fixture
def app(app_with: Callable[..., FlaskClient]) -> FlaskClient:
    return app_with(default_monthly_token_limit=MONTH)


@pytest.fixture
def use(database: SessionFactory) -> Use:
    def used(key: dict[str, Any], tokens: int, *, days_ago: int = 0) -> None:
        at = utc_now() - timedelta(days=days_ago)
        with database.begin() as session:
            job = add_job(
                session,
                session.get_one(ApiKey, id_of(key)),
                state=JobState.SUCCEEDED,
                prompt_tokens=tokens,
                started_at=at,
                finished_at=at,
                created_at=at,
            )
            record_usages(session, [job])

    return used


def id_of(key: dict[str, Any]) -> UUID:
    found = parse_id(Prefix.KEY, key["id"])
    assert found is not None
    return found


def make(customer: Call) -> dict[str, Any]:
    response = customer("POST", "/api/keys", name="k")
    assert response.status_code == 201, response.text
    return dict(response.get_json())


def delete(customer: Call, key: dict[str, Any]) -> None:
    assert customer("DELETE", f"/api/keys/{key['id']}").status_code == 204


def used_in_month(app: FlaskClient, key: dict[str, Any]) -> int:
    response = app.get("/api/limits", headers={"x-api-key": key["secret"]})
    return int(response.get_json()["monthlyTokenLimit"]["used"])


def test_deleting_a_key_does_not_reset_the_quota_of_the_month(
    app: FlaskClient, customer: Call, use: Use
) -> None:
    first = make(customer)
    use(first, 2900)
    delete(customer, first)

    second = make(customer)

    response = app.post(
        "/api/llm/jobs",
        json={"prompt": "x", "maxTokens": 200},
        headers={"x-api-key": second["secret"]},
    )
    assert (response.status_code, response.get_json()["error"]["code"]) == (
        429,
        "monthly_quota_exceeded",
    )
    assert used_in_month(app, second) == 2900


def test_one_living_key_after_the_other_takes_over_the_usage_of_deleted_keys(
    app: FlaskClient, customer: Call, use: Use
) -> None:
    first, second = make(customer), make(customer)
    use(first, 100)
    use(second, 20)
    delete(customer, first)
    delete(customer, second)

    third = make(customer)
    beside = make(customer)
    assert (used_in_month(app, third), used_in_month(app, beside)) == (120, 0)
    use(third, 3)
    delete(customer, third)
    assert used_in_month(app, make(customer)) == 123
    assert used_in_month(app, make(customer)) == 0


def test_a_key_with_a_full_quota_leaves_the_remaining_usage_to_the_next_key(
    app: FlaskClient, customer: Call, use: Use
) -> None:
    keys = [make(customer), make(customer)]
    for key in keys:
        use(key, 2900)
    for _ in range(3):
        for key in keys:
            delete(customer, key)

        keys = [make(customer), make(customer)]

        assert [used_in_month(app, key) for key in keys] == [MONTH, 2800]
    assert used_in_month(app, make(customer)) == 0


def test_a_key_with_a_low_quota_takes_over_as_much_as_its_owner_may_raise_it_to(
    app: FlaskClient, customer: Call, use: Use
) -> None:
    keys = [make(customer), make(customer)]
    for key in keys:
        use(key, 2900)
        delete(customer, key)

    low = customer("POST", "/api/keys", name="low", monthlyTokenLimit=1).get_json()

    assert used_in_month(app, low) == MONTH


def test_a_limit_that_an_admin_lifted_does_not_return_with_the_remaining_usage(
    app: FlaskClient, admin: User, customer: Call, use: Use
) -> None:
    administrator = sign_in_as(app, ADMIN_EMAIL, ADMIN_PASSWORD)
    for key in [make(customer), make(customer)]:
        administrator("PUT", f"/api/keys/{key['id']}", rateLimit=5)
        use(key, 2900)
        delete(customer, key)
    first = make(customer)
    administrator("PUT", f"/api/keys/{first['id']}", rateLimit=60)

    second = make(customer)

    assert (first["setByAdmin"], second["setByAdmin"]) == ({"rateLimit": 5}, {})
    assert used_in_month(app, second) == 2800


def test_usage_that_was_taken_over_survives_the_loss_of_redis(
    app: FlaskClient, customer: Call, use: Use, redis_client: redis.Redis
) -> None:
    first = make(customer)
    use(first, 100)
    delete(customer, first)
    second = make(customer)
    assert used_in_month(app, second) == 100
    use(second, 5)

    redis_client.flushall()

    assert used_in_month(app, second) == 105


def test_usage_of_an_earlier_month_is_not_taken_over(
    app: FlaskClient, customer: Call, use: Use
) -> None:
    first = make(customer)
    use(first, 100, days_ago=40)
    delete(customer, first)

    assert used_in_month(app, make(customer)) == 0


def test_a_new_key_takes_over_the_tokens_in_flight_of_a_deleted_key(
    app: FlaskClient, customer: Call, database: SessionFactory
) -> None:
    first = make(customer)
    with database.begin() as session:
        key = session.get_one(ApiKey, id_of(first))
        add_job(
            session,
            key,
            state=JobState.RUNNING,
            charged_tokens=700,
            lease_expires_at=utc_now() + timedelta(minutes=1),
        )
    delete(customer, first)

    assert used_in_month(app, make(customer)) == 700
