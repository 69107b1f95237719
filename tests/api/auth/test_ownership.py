"""A customer with another customer's ids reaches nothing and changes nothing, on any route.

`ROUTES` of `tests/support/ownership` lists every route of the application, and what another
customer may do there. A new route fails `test_every_route_is_in_the_table` until it is added. A
new kind of id in a path needs a value in `TwoCustomers.ids`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from api.app import create_app
from api.services import Services
from core.config.settings import Settings
from core.ids import Prefix, format_id
from core.security.api_key_secret import KeySecret
from models.accounts.user import Role, create_user
from models.database.base import SessionFactory, utc_now
from models.jobs.job import JobState
from models.usage.usage import record_usages
from models.webhooks.webhook import WebhookDelivery
from tests.support.factories.rows import add_file, add_job, hash_quickly
from tests.support.http.accounts import signed_in
from tests.support.ownership.routes import GENERATION, PASSWORD, ROUTES, AdminOnly, Foreign, Own
from tests.support.ownership.two_customers import TwoCustomers, add_customer, add_ended_batch

REFUSALS = {401, 403, 404}


@pytest.fixture(scope="module")
def app(base_settings: Settings) -> Iterator[FlaskClient]:
    services = Services.from_settings(base_settings)
    yield create_app(services).test_client()
    services.jobs.events.close()


@pytest.fixture(scope="module")
def password_hash() -> str:
    return hash_quickly(PASSWORD)


@pytest.fixture
def customers(
    app: FlaskClient,
    password_hash: str,
    base_settings: Settings,
    database: SessionFactory,
    redis_client: redis.Redis,
) -> TwoCustomers:
    with database.begin() as session:
        admin = create_user(
            session, email="admin@example.com", password_hash="none", role=Role.ADMIN
        )
        victim, key, secret = add_customer(session, "victim@example.com", password_hash)
        done = add_job(
            session,
            key,
            state=JobState.SUCCEEDED,
            started_at=utc_now(),
            finished_at=utc_now(),
            choices=[{"index": 0, "text": "the victims completion", "finish_reason": "stop"}],
        )
        record_usages(session, [done])
        delivery = WebhookDelivery(
            user_id=victim.id,
            api_key_id=key.id,
            job_id=done.id,
            url="https://victim.example.com",
            event="job.succeeded",
            payload={},
        )
        session.add(delivery)
        file = add_file(session, key, pieces=1)
        batch = add_ended_batch(session, key, input_file_id=file.id)
        waiting = add_job(session, key)
        other, own_key, own_secret = add_customer(session, "other@example.com", password_hash)
    token = signed_in(app, other)
    uuids = [victim.id, key.id, done.id, waiting.id, delivery.id, batch.id, file.id]
    return TwoCustomers(
        app=app,
        database=database,
        ids={
            "user_id": format_id(Prefix.USER, victim.id),
            "key_id": format_id(Prefix.KEY, key.id),
            "job_id": format_id(Prefix.JOB, waiting.id),
            "webhook_id": format_id(Prefix.WEBHOOK, delivery.id),
            "batch_id": format_id(Prefix.BATCH, batch.id),
            "file_id": format_id(Prefix.FILE, file.id),
            "path:name": base_settings.model_name,
        },
        marks=[
            *(str(value) for value in uuids),
            *(value.hex for value in uuids),
            "victim",
            secret.public_id,
        ],
        credentials={
            "token": token,
            "key": {"x-api-key": own_secret.text},
            "token and own key": {**token, "x-api-key-id": format_id(Prefix.KEY, own_key.id)},
            "token and the victim's key": {**token, "x-api-key-id": format_id(Prefix.KEY, key.id)},
            "victim's key with another secret": {
                "x-api-key": KeySecret.renewed(secret.public_id).text
            },
        },
        owner=signed_in(app, victim),
        admin=signed_in(app, admin),
    )


def cases(*kinds: type) -> list[Any]:
    return [
        pytest.param(method, rule, wanted, id=f"{method} {rule}")
        for (method, rule), wanted in ROUTES.items()
        if isinstance(wanted, kinds)
    ]


def test_every_route_is_in_the_table(customers: TwoCustomers) -> None:
    routes = {
        (method, rule.rule)
        for rule in customers.app.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    assert routes - set(ROUTES) == set(), "add these routes to ROUTES"
    assert set(ROUTES) - routes == set(), "these routes do not exist: remove them from ROUTES"


def test_a_route_with_an_id_in_its_path_is_foreign() -> None:
    own = {rule for (_, rule), kind in ROUTES.items() if isinstance(kind, Own) and "_id>" in rule}

    assert own == set(), "an id in a path has an owner: the route is Foreign"


@pytest.mark.parametrize(("method", "rule", "wanted"), cases(Own, Foreign, AdminOnly))
def test_without_credentials_every_route_is_refused(
    customers: TwoCustomers, method: str, rule: str, wanted: Own | Foreign | AdminOnly
) -> None:
    before = customers.rows()

    response = customers.call(method, rule, {}, json=wanted.body)

    assert (response.status_code, response.get_json()["error"]["code"]) == (
        401,
        "missing_credentials",
    )
    assert customers.rows() == before


@pytest.mark.parametrize(("method", "rule", "wanted"), cases(Foreign, AdminOnly))
def test_resources_of_another_customer_do_not_exist(
    customers: TwoCustomers, method: str, rule: str, wanted: Foreign | AdminOnly
) -> None:
    before = customers.rows()

    for name, headers in customers.credentials.items():
        response = customers.call(method, rule, headers, json=wanted.body)

        assert response.status_code in REFUSALS, (name, response.text)
        if name == "token":
            expected = 404 if isinstance(wanted, Foreign) else 403
            assert response.status_code == expected, response.text
        assert not [mark for mark in customers.marks if mark in response.text]
    assert customers.rows() == before


@pytest.mark.parametrize(("method", "rule", "wanted"), cases(Foreign, AdminOnly))
def test_the_owner_or_an_admin_reaches_the_resource(
    customers: TwoCustomers, method: str, rule: str, wanted: Foreign | AdminOnly
) -> None:
    """Otherwise the refusals of the other tests would prove nothing."""
    if rule.endswith("/stream"):
        method = "HEAD"  # no worker ends the job: a stream of it would never end

    responses = [
        customers.call(method, rule, headers, json=wanted.body)
        for headers in (customers.admin, customers.owner)
    ]

    assert not all(response.status_code in REFUSALS for response in responses), responses[0].text
    if isinstance(wanted, Foreign) and method in {"GET", "HEAD"}:
        assert responses[1].status_code == 200, responses[1].text


@pytest.mark.parametrize(("method", "rule", "wanted"), cases(Own))
def test_responses_contain_nothing_of_another_customer(
    customers: TwoCustomers, method: str, rule: str, wanted: Own
) -> None:
    before = customers.rows()

    for name, headers in customers.credentials.items():
        response = customers.call(method, rule, headers, json=wanted.body)

        assert response.status_code < 500, (name, response.text)
        if name == "victim's key with another secret":
            assert response.status_code == 401, response.text
        assert not [mark for mark in customers.marks if mark in response.text]
    assert customers.rows() == before


@pytest.mark.parametrize(("method", "rule", "wanted"), cases(Own))
def test_naming_ids_of_another_customer_is_refused(
    customers: TwoCustomers, method: str, rule: str, wanted: Own
) -> None:
    before = customers.rows()

    for reach in wanted.reaching:
        for name in ("token", "key"):
            headers = customers.credentials[name]
            if isinstance(reach, str):
                query = reach.format(**customers.ids)
                response = customers.call(method, rule, headers, query=query)
            else:
                body = {
                    key: value.format(**customers.ids) if isinstance(value, str) else value
                    for key, value in reach.items()
                }
                response = customers.call(method, rule, headers, json=body)
            assert response.status_code in REFUSALS, (name, reach, response.text)
    assert customers.rows() == before


def test_a_key_id_of_the_victim_generates_only_for_the_victim(customers: TwoCustomers) -> None:
    headers = customers.credentials["token and the victim's key"]
    before = customers.rows()

    for path, body in (("/api/llm/generate", GENERATION), ("/api/llm/jobs", GENERATION)):
        response = customers.app.post(path, json=body, headers=headers)
        assert (response.status_code, response.get_json()["error"]["code"]) == (
            401,
            "invalid_api_key",
        )
    assert customers.rows() == before
