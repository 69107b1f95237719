"""A customer requests every route with ids of rows of another customer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import requests
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from admin_ui.web.access import Audience
from core.ids import Prefix, format_id
from models.accounts.user import User
from models.database.base import SessionFactory
from models.jobs.job import Job
from models.webhooks.webhook import WebhookDelivery
from tests.support.browser.pages import csrf, sign_in
from tests.support.browser.routes import rules
from tests.support.factories.batches import add_batch
from tests.support.factories.rows import add_job, add_key, hash_quickly
from tests.support.service import Service

CUSTOMER = ("c@example.com", "customer1")
OTHER = "the-other@example.com"
MARK = "of-the-other"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
#: Parameters of queries and forms that take each kind of id.
NAMES = {
    Prefix.USER: ("user", "owner", "actor"),
    Prefix.KEY: ("key", "target"),
    Prefix.JOB: ("job", "ids", "after", "before", "newest"),
    Prefix.BATCH: ("ids",),
    Prefix.WEBHOOK: ("webhook", "target"),
}


@dataclass(frozen=True, slots=True)
class OtherCustomer:
    """Ids of the rows of a customer that the requesting customer may not see."""

    ids: dict[Prefix, str]

    @classmethod
    def added(cls, session: Session) -> OtherCustomer:
        """Add a customer with one row of each kind; all texts contain `MARK`."""
        user = User(email=OTHER, name=MARK, password_hash=hash_quickly("other1234"))
        session.add(user)
        session.flush()
        key = add_key(session, user)
        key.name = MARK
        request = {"prompt": MARK, "metadata": {"label": MARK}}
        job = add_job(session, key, request=request, model=MARK)
        batch = add_batch(session, key, lines=2, name=MARK, model=MARK)
        webhook = WebhookDelivery(
            user_id=user.id,
            api_key_id=key.id,
            job_id=job.id,
            url=f"https://receiver.invalid/{MARK}",
            event="job.succeeded",
            payload={},
            state="failed",
            attempts=7,
        )
        session.add(webhook)
        session.flush()
        rows = {Prefix.USER: user, Prefix.KEY: key, Prefix.JOB: job, Prefix.BATCH: batch}
        ids = {prefix: format_id(prefix, row.id) for prefix, row in rows.items()}
        return cls({**ids, Prefix.WEBHOOK: format_id(Prefix.WEBHOOK, webhook.id)})

    def of_path(self, argument: str) -> str:
        """Return the value of an argument of a rule."""
        prefix = {"user": Prefix.USER, "key": Prefix.KEY, "job": Prefix.JOB, "batch": Prefix.BATCH}
        found = prefix.get(argument.removesuffix("_id"))
        return self.ids[found] if found else "tokens"

    def queries(self) -> Iterator[dict[str, str]]:
        """Yield a query for each parameter and id, and one with the email."""
        for prefix, names in NAMES.items():
            for name in names:
                yield {name: self.ids[prefix]}
        yield {"owner": OTHER, "user": OTHER, "actor": OTHER, "q": MARK}


@pytest.fixture
def other(database: SessionFactory) -> OtherCustomer:
    """The other customer, beside the one who sends the requests."""
    with database.begin() as session:
        session.add(User(email=CUSTOMER[0], password_hash=hash_quickly(CUSTOMER[1])))
        return OtherCustomer.added(session)


def test_rows_of_another_customer_are_not_found(
    pages_client: FlaskClient, other: OtherCustomer
) -> None:
    assert sign_in(pages_client, *CUSTOMER).status_code == 303
    app = pages_client.application
    token = csrf(pages_client.get("/settings"))
    tried = 0
    for rule in rules(app):
        if not any(argument.endswith("_id") for argument in rule.arguments):
            continue
        values = {argument: other.of_path(argument) for argument in rule.arguments}
        path = app.url_map.bind("localhost").build(rule.endpoint, values)
        for method in METHODS:
            form = {"webhook": other.ids[Prefix.WEBHOOK]} if method == "POST" else None
            response = pages_client.open(
                path, method=method, data=form, headers={"X-CSRF-Token": token}
            )
            # The page itself must reject the id: the API is away here, so a call of it gives 503.
            expected = {404} if method in (rule.methods or ()) else {404, 405}
            assert response.status_code in expected, (method, path)
            assert MARK not in response.text
            assert OTHER not in response.text
            tried += 1
    assert tried > 100


def test_no_query_returns_rows_of_another_customer(
    pages_client: FlaskClient, other: OtherCustomer
) -> None:
    sign_in(pages_client, *CUSTOMER)
    app = pages_client.application
    for rule in rules(app, Audience.SIGNED_IN):
        if "GET" not in (rule.methods or ()) or any(a.endswith("_id") for a in rule.arguments):
            continue
        values = dict.fromkeys(rule.arguments, "tokens")
        path = app.url_map.bind("localhost").build(rule.endpoint, values)
        for query in other.queries():
            response = pages_client.get(path, query_string=query)
            text = response.text
            for value in query.values():  # a page may repeat the values of its query
                text = text.replace(f'value="{value}"', "").replace(f"={value}", "")
            assert response.status_code < 500, (path, query)
            assert MARK not in text, (path, query)
            assert OTHER not in text, (path, query)


def test_the_api_rejects_ids_of_another_customer_in_a_form(ui_service: Service) -> None:
    """A form of an own page may name a webhook or a key of another customer; the API checks it."""
    with ui_service.sessions.begin() as session:
        own = User(email=CUSTOMER[0], password_hash=hash_quickly(CUSTOMER[1]))
        session.add(own)
        session.flush()
        key = add_key(session, own)
        job = format_id(Prefix.JOB, add_job(session, key, state="failed").id)
        batch = add_batch(session, key, lines=2, state="expired", expired=2)
        retried = format_id(Prefix.BATCH, batch.id)
        other = OtherCustomer.added(session)
    webhook, theirs = other.ids[Prefix.WEBHOOK], other.ids[Prefix.KEY]
    with requests.Session() as http:

        def send(path: str, **form: str) -> int:
            page = http.get(f"{ui_service.admin_url}/sign-in", timeout=20)
            found = page.text.split('name="csrf-token" content="')[1].partition('"')[0]
            return http.post(
                f"{ui_service.admin_url}{path}",
                data={"csrf_token": found, **form},
                allow_redirects=False,
                timeout=20,
            ).status_code

        assert send("/sign-in", email=CUSTOMER[0], password=CUSTOMER[1]) == 303
        assert send(f"/jobs/{job}/resend", webhook=webhook) == 404
        assert send("/playground", key=theirs, prompt="hello") in {401, 403, 404}
        assert send("/playground/stream", key=theirs, prompt="hello") in {401, 403, 404}
        assert send(f"/batches/{retried}/retry", key=theirs) in {401, 403, 404}
        # The API also rejects a text that is no id, with any characters.
        for odd in ("a\r\nx-evil: 1", "schlüssel €", "x" * 20_000):
            assert send("/playground", key=odd, prompt="hello") in {400, 401, 403, 404}, odd
    with ui_service.sessions() as session:
        message = session.query(WebhookDelivery).one()
        assert (message.state, message.attempts) == ("failed", 7)
        assert session.query(Job).count() == 6, "only the jobs that the test added"
