"""A customer with another customer's ids reaches nothing and changes nothing, on any route.

`ROUTES` lists every route of the application, and what another customer may do there. A new route
fails `test_every_route_is_in_the_table` until it is added. A new kind of id in a path needs a value
in `TwoCustomers.ids`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
import redis
from flask.testing import FlaskClient
from sqlalchemy import text

from api.app import create_app
from api.services import Services
from core.config.settings import Settings
from core.ids import Prefix, format_id
from core.security.api_key_secret import KeySecret
from models.accounts.api_key import ApiKey, create_key
from models.accounts.user import Role, User, create_user
from models.batches.batch import Batch, BatchState
from models.database.base import Session, SessionFactory, utc_now
from models.jobs.job import JobState
from models.schema import metadata
from models.usage.usage import record_usages
from models.webhooks.webhook import WebhookDelivery
from tests.support.factories.rows import add_file, add_job, hash_quickly
from tests.support.http.accounts import signed_in

PASSWORD = "a password of the tests"
REFUSALS = {401, 403, 404}


@dataclass(frozen=True)
class Open:
    """A route that needs no credentials."""


@dataclass(frozen=True)
class Own:
    """A route that needs credentials, and reads and changes only what the caller owns.

    Attributes:
        body: the body of the request.
        reaching: queries and bodies with another customer's ids (`{user_id}`, …): each is refused.
    """

    body: dict[str, Any] | None = None
    reaching: tuple[str | dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Foreign:
    """A route with an id in its path: for another customer the resource does not exist."""

    body: dict[str, Any] | None = None


@dataclass(frozen=True)
class AdminOnly:
    """A route that is refused to every customer."""

    body: dict[str, Any] | None = None


Rule = Open | Own | Foreign | AdminOnly

GENERATION = {"prompt": "hello", "maxTokens": 1}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
BATCH = {"endpoint": "/v1/completions", "completion_window": "24h"}
NEW_USER = {"email": "new@example.com", "password": PASSWORD}
WHOSE = ("?userId={user_id}", "?keyId={key_id}", "?groupBy=key&userId={user_id}&keyId={key_id}")

ROUTES: dict[tuple[str, str], Rule] = {
    ("GET", "/"): Open(),
    ("GET", "/v1"): Open(),
    ("GET", "/version"): Open(),
    ("GET", "/health"): Open(),
    ("GET", "/healthz"): Open(),
    ("GET", "/readyz"): Open(),
    ("GET", "/api/openapi.json"): Open(),
    ("GET", "/api/docs"): Open(),
    ("GET", "/api/docs/<name>"): Open(),
    ("POST", "/api/auth/register"): Open(),
    ("POST", "/api/auth/login"): Open(),
    ("POST", "/api/auth/refresh"): Open(),
    # It ends the session of its token, which the tests below need.
    ("POST", "/api/auth/logout"): Open(),
    ("POST", "/api/auth/change-password"): Own(
        {"currentPassword": "not this one", "newPassword": PASSWORD}
    ),
    ("GET", "/api/auth/me"): Own(),
    ("GET", "/api/users"): AdminOnly(),
    ("POST", "/api/users"): AdminOnly(NEW_USER),
    ("GET", "/api/users/<user_id>"): Foreign(),
    ("PUT", "/api/users/<user_id>"): Foreign({"name": "taken over"}),
    ("DELETE", "/api/users/<user_id>"): Foreign(),
    ("GET", "/api/keys"): Own(reaching=("?userId={user_id}",)),
    ("POST", "/api/keys"): Own({"name": "k"}, reaching=({"name": "k", "userId": "{user_id}"},)),
    ("GET", "/api/keys/<key_id>"): Foreign(),
    ("PUT", "/api/keys/<key_id>"): Foreign({"isActive": False}),
    ("DELETE", "/api/keys/<key_id>"): Foreign(),
    ("POST", "/api/keys/<key_id>/rotate"): Foreign({"graceSeconds": 0}),
    ("GET", "/api/keys/<key_id>/webhook-secret"): Foreign(),
    ("POST", "/api/llm/generate"): Own({**GENERATION, "maxTokens": 10**6}),
    ("POST", "/api/llm/jobs"): Own({**GENERATION, "maxTokens": 10**6}),
    ("GET", "/api/llm/jobs"): Own(),
    ("GET", "/api/llm/jobs/<job_id>"): Foreign(),
    ("GET", "/api/llm/jobs/<job_id>/stream"): Foreign(),
    ("DELETE", "/api/llm/jobs/<job_id>"): Foreign(),
    ("GET", "/api/llm/jobs/<job_id>/webhooks"): Foreign(),
    ("POST", "/api/llm/batches"): Own(),
    ("GET", "/api/llm/batches"): Own(),
    ("GET", "/api/llm/batches/<batch_id>"): Foreign(),
    ("GET", "/api/llm/batches/<batch_id>/results"): Foreign(),
    ("POST", "/api/llm/batches/<batch_id>/cancel"): Foreign(),
    ("POST", "/api/llm/batches/<batch_id>/retry"): Foreign(),
    ("GET", "/api/llm/models"): Own(),
    ("GET", "/api/limits"): Own(),
    ("GET", "/api/webhooks"): Own(),
    ("POST", "/api/webhooks/<webhook_id>/resend"): Foreign({}),
    ("GET", "/api/usage"): Own(reaching=WHOSE),
    ("GET", "/api/admin/overview"): AdminOnly(),
    ("GET", "/api/admin/workers"): AdminOnly(),
    ("GET", "/api/admin/activity"): AdminOnly(),
    ("POST", "/v1/completions"): Own({"model": "m", "prompt": "hello", "max_tokens": 10**6}),
    ("POST", "/v1/chat/completions"): Own({**CHAT, "max_tokens": 10**6}),
    ("GET", "/v1/models"): Own(),
    ("GET", "/v1/models/<path:name>"): Own(),
    ("POST", "/v1/files"): Own(),
    ("GET", "/v1/files"): Own(),
    ("GET", "/v1/files/<file_id>"): Foreign(),
    ("GET", "/v1/files/<file_id>/content"): Foreign(),
    ("DELETE", "/v1/files/<file_id>"): Foreign(),
    ("POST", "/v1/batches"): Own(
        {**BATCH, "input_file_id": "file_x"}, reaching=({**BATCH, "input_file_id": "{file_id}"},)
    ),
    ("GET", "/v1/batches"): Own(),
    ("GET", "/v1/batches/<batch_id>"): Foreign(),
    ("POST", "/v1/batches/<batch_id>/cancel"): Foreign(),
}


@dataclass
class TwoCustomers:
    """A victim who owns one resource of each kind, and an attacker with all kinds of credentials.

    Attributes:
        ids: the value of each argument of a path; the ids are the victim's.
        marks: texts that no response to the attacker may contain.
        credentials: headers of the attacker, by the way in which they present the credentials.
        owner: headers of the victim.
        admin: headers of an admin.
    """

    app: FlaskClient
    database: SessionFactory
    ids: dict[str, str]
    marks: list[str]
    credentials: dict[str, dict[str, str]]
    owner: dict[str, str]
    admin: dict[str, str]

    def call(self, method: str, rule: str, headers: dict[str, str], **options: Any) -> Any:
        path = rule
        for name, value in self.ids.items():
            path = path.replace(f"<{name}>", value)
        assert "<" not in path, f"add a value for the argument of {rule} to TwoCustomers.ids"
        query = options.pop("query", "")
        return self.app.open(path + query, method=method, headers=headers, **options)

    def rows(self) -> list[str]:
        """Return every row of the database that contains one of the marks."""
        with self.database() as session:
            rows = [
                f"{table.name} {row}"
                for table in metadata.sorted_tables
                for row in session.scalars(text(f'select t::text from "{table.name}" t'))
            ]
        return sorted(row for row in rows if any(mark in row for mark in self.marks))


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
        victim, key, secret = _customer(session, "victim@example.com", password_hash)
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
        batch = _ended_batch(session, key, input_file_id=file.id)
        waiting = add_job(session, key)
        other, own_key, own_secret = _customer(session, "other@example.com", password_hash)
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


def _ended_batch(session: Session, key: ApiKey, *, input_file_id: UUID) -> Batch:
    """Return a batch with a line that can be retried."""
    now = utc_now()
    batch = Batch(
        user_id=key.user_id,
        api_key_id=key.id,
        name="victims batch",
        endpoint=BATCH["endpoint"],
        input_file_id=input_file_id,
        model="m",
        total=1,
        failed=1,
        state=BatchState.COMPLETED,
        finished_at=now,
        expires_at=now,
    )
    session.add(batch)
    session.flush()
    add_job(
        session,
        key,
        batch_id=batch.id,
        line=1,
        state=JobState.FAILED,
        finished_at=now,
        error={"code": "engine_error", "message": "the victims line"},
    )
    return batch


def _customer(session: Any, email: str, password_hash: str) -> tuple[User, ApiKey, KeySecret]:
    user = create_user(session, email=email, password_hash=password_hash)
    return user, *create_key(session, user_id=user.id, name=f"key of {email}", rate_limit=1000)


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
