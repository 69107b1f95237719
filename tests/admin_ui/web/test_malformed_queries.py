"""Malformed queries give a page or an error message, never a status of 500."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from core.ids import Prefix, format_id
from models.accounts.user import User
from models.database.base import SessionFactory
from tests.support.browser.pages import sign_in
from tests.support.factories.batches import add_batch
from tests.support.factories.rows import ADMIN_EMAIL, ADMIN_PASSWORD, add_job, add_key, hash_quickly

CUSTOMER = ("c@example.com", "customer1")
EXAMPLES = 150
#: Parameters that the pages read.
NAMES = (
    *("q", "sort", "page", "role", "status", "owner", "state", "queue", "key", "user", "job"),
    *("ids", "newest", "after", "before", "range", "from", "to", "zone", "by", "model", "over"),
    *("actor", "target", "group", "address", "looks", "next", "prompt", "mode", "maxTokens"),
)
#: Names of arguments of our functions and of Flask: no page may pass such a parameter to one.
FOREIGN = ("endpoint", "self", "values", "_scheme", "_external", "_anchor", "_method", "a b", "")
#: Percent-encoded values.
ODD = (
    *("", "%00", "a%00b", "%ff%fe", "%ed%a0%80", "%0d%0aX:%20y", "%E2%80%AE", "'", "%22%3E", "%25"),
    *("0", "-1", "1e9", "NaN", "9" * 30, "-" + "9" * 30, "9" * 3000, "%D9%A3", "x" * 3000),
    *("2026-02-30", "0001-01-01", "1970-01-01", "9998-12-31", "9999-12-31", "2026-W01-1"),
    *("..%2F..%2Fetc%2Fpasswd", "America", "Pacific%2FApia", "America%2FNew_York"),
    *("key_" + "0" * 32, "gen_" + "f" * 32, "user_" + "f" * 32, "key_-" + "0" * 31, "gen_"),
    *("act_" + "f" * 32, "gen_,," * 400, "%2C" * 900),
    *("all", "today", "last-month", "-tokens", "hour", "queued", "bulk", "javascript", "1"),
)


@pytest.fixture
def addresses(database: SessionFactory, admin: User, pages_client: FlaskClient) -> list[str]:
    """The path of every page, with ids of rows of a customer."""
    with database.begin() as session:
        user = User(email=CUSTOMER[0], password_hash=hash_quickly(CUSTOMER[1]))
        session.add(user)
        session.flush()
        key = add_key(session, user)
        ids = {
            "user_id": format_id(Prefix.USER, user.id),
            "key_id": format_id(Prefix.KEY, key.id),
            "job_id": format_id(Prefix.JOB, add_job(session, key).id),
            "batch_id": format_id(Prefix.BATCH, add_batch(session, key, lines=3).id),
            "chart": "tokens",
        }
    return list(_addresses(pages_client.application, ids))


def _addresses(app: Flask, ids: dict[str, str]) -> Iterator[str]:
    for rule in app.url_map.iter_rules():
        if "GET" in (rule.methods or ()) and rule.endpoint != "static":
            values = {name: ids[name] for name in rule.arguments}
            yield app.url_map.bind("localhost").build(rule.endpoint, values)


def queries() -> SearchStrategy[str]:
    """Return queries with our parameters and odd or random values."""
    values = st.one_of(st.sampled_from(ODD), st.text(max_size=20).map(_quoted))
    pairs = st.tuples(st.sampled_from(NAMES + FOREIGN), values)
    return st.lists(pairs, max_size=12).map(lambda found: "&".join(f"{n}={v}" for n, v in found))


def _quoted(text: str) -> str:
    return quote(text.encode(errors="surrogatepass"))


@pytest.mark.parametrize(
    "credentials", [(ADMIN_EMAIL, ADMIN_PASSWORD), CUSTOMER], ids=["admin", "customer"]
)
def test_no_page_breaks(
    pages_client: FlaskClient, addresses: list[str], credentials: tuple[str, str]
) -> None:
    assert sign_in(pages_client, *credentials).status_code == 303
    foreign = "&".join(f"{name}=x" for name in FOREIGN)
    for address in addresses:
        for url in (address, f"{address}?{foreign}"):
            assert pages_client.get(url).status_code < 500 or calls_the_api(address), url

    @settings(max_examples=EXAMPLES)
    @given(st.sampled_from(addresses), queries())
    def check(address: str, query: str) -> None:
        response = pages_client.get(f"{address}?{query}")
        assert response.status_code < 500 or calls_the_api(address), response.status
        if "Location" in response.headers:
            assert response.location.startswith("/")
            assert not response.location.startswith("//")
        assert "javascript:" not in response.text
        assert 'href="http://localhost' not in response.text

    check()


def calls_the_api(address: str) -> bool:
    """Return whether a page calls the API: its status is 503 here, where the API is away."""
    return address.endswith(("/text", "/results"))
