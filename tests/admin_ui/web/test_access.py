"""Every route of the pages, requested without the right to see it."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from admin_ui.web.access import Audience
from core.ids import Prefix, format_id, new_id
from models.accounts.user import User
from models.database.base import SessionFactory
from tests.support.browser.pages import csrf, sign_in
from tests.support.browser.routes import rules
from tests.support.factories.rows import hash_quickly

CHANGES = ("POST", "PUT", "PATCH", "DELETE")


def path_of(app: Flask, rule: Rule) -> str:
    """Return a path of the rule, with unknown ids."""
    prefixes = {name: _prefix(name) for name in rule.arguments}
    values = {name: format_id(prefix, new_id()) for name, prefix in prefixes.items()}
    return app.url_map.bind("localhost").build(rule.endpoint, values, append_unknown=False)


def _prefix(argument: str) -> Prefix:
    return {
        "user_id": Prefix.USER,
        "key_id": Prefix.KEY,
        "job_id": Prefix.JOB,
        "batch_id": Prefix.BATCH,
    }.get(argument, Prefix.JOB)


@pytest.fixture
def customer(pages_client: FlaskClient, database: SessionFactory) -> FlaskClient:
    """A client of the pages with the session of a customer."""
    with database.begin() as session:
        session.add(User(email="c@example.com", password_hash=hash_quickly("customer1")))
    assert sign_in(pages_client, "c@example.com", "customer1").status_code == 303
    return pages_client


def test_without_a_session_no_page_opens(pages_client: FlaskClient) -> None:
    app = pages_client.application
    token = csrf(pages_client.get("/sign-in"))
    tried = 0
    for rule in [*rules(app, Audience.ADMIN), *rules(app, Audience.SIGNED_IN)]:
        for method in sorted(rule.methods or ()):
            response = pages_client.open(
                path_of(app, rule), method=method, headers={"X-CSRF-Token": token}
            )
            expected = 200 if method == "OPTIONS" else 303
            assert response.status_code in {303, expected}, (rule.rule, method)
            assert not response.data or response.location.startswith("/sign-in"), (
                rule.rule,
                method,
            )
            tried += 1
    assert tried > 5


def test_pages_for_admins_do_not_exist_for_a_customer(customer: FlaskClient) -> None:
    app = customer.application
    token = csrf(customer.get("/settings"))
    tried = 0
    for rule in rules(app, Audience.ADMIN):
        for method in ("GET", "HEAD", *CHANGES):
            response = customer.open(
                path_of(app, rule), method=method, headers={"X-CSRF-Token": token}
            )
            assert response.status_code in {404, 405}, (rule.rule, method)
            tried += 1
    assert tried


def test_a_change_without_the_token_of_its_form_is_refused(pages_client: FlaskClient) -> None:
    sign_in(pages_client)
    app = pages_client.application
    tried = 0
    for rule in rules(app):
        for method in sorted(set(CHANGES) & (rule.methods or set())):
            for form in ({}, {"csrf_token": ""}, {"csrf_token": "forged"}):
                response = pages_client.open(path_of(app, rule), method=method, data=form)
                assert response.status_code == 400, (rule.rule, method)
                assert "The form has expired" in response.text
                tried += 1
    assert tried >= 3
    assert pages_client.get("/").status_code == 200, "a rejected sign-out ends no session"
