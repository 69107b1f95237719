"""Lists of customers and keys: their pages and orders, and what is whose."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from admin_ui.app import create_app
from admin_ui.services import Services
from core.config.settings import Settings
from core.ids import Prefix, new_id, show_id
from models.accounts.api_key import ApiKey
from models.accounts.user import User
from models.batches.batch import Batch
from models.database.base import SessionFactory, utc_now
from models.jobs.job import JobState
from tests.admin_ui.overview.test_overview import SESSION_COOKIE
from tests.support.browser.pages import csrf, sign_in, text_of
from tests.support.factories.rows import add_job, add_key, add_user, hash_quickly

CUSTOMER = ("c@example.com", "customer1")


@pytest.fixture
def customer(database: SessionFactory, admin: User) -> User:
    with database.begin() as session:
        user = User(email=CUSTOMER[0], password_hash=hash_quickly(CUSTOMER[1]))
        session.add(user)
    return user


def names_of(page: TestResponse) -> list[str]:
    """Return what stands first in each row of the page's table."""
    return re.findall(r"<tr>\s*<td><a [^>]*>(.*?)</a>", page.text.replace("<wbr>", ""))


def key_path(key: ApiKey) -> str:
    return f"/keys/{show_id(Prefix.KEY, key.id)}"


def test_a_list_has_pages(browser: FlaskClient, database: SessionFactory) -> None:
    with database.begin() as session:
        for number in range(119):
            user = User(email=f"u{number:03}@example.com", password_hash="none")
            session.add(user)
    sign_in(browser)

    first = browser.get("/customers?sort=-email")
    last = browser.get("/customers?sort=-email&page=3")

    assert names_of(first) == [f"u{number:03}@example.com" for number in range(118, 68, -1)]
    assert "1 to 50 of 120" in text_of(first)
    assert 'href="/customers?sort=-email&amp;page=2" rel="next"' in first.text
    assert 'rel="prev"' not in first.text
    assert names_of(last)[-2:] == ["u000@example.com", "admin@bountycoder.com"]
    assert "101 to 120 of 120" in text_of(last)
    assert 'rel="next"' not in last.text
    assert "The list ends before this page." in browser.get("/customers?page=4").text
    assert "1 in all" in text_of(browser.get("/customers?q=U077"))


@pytest.mark.parametrize(
    "query",
    [
        *("sort=password", "page=-1", "page=x", "role=king", "sort=%00"),
        *("endpoint=keys.index", "_external=1&_anchor=x", "_method=POST", "self=1"),
    ],
)
def test_an_address_that_was_tampered_with_shows_the_list(browser: FlaskClient, query: str) -> None:
    sign_in(browser)

    page = browser.get(f"/customers?{query}")

    assert names_of(page) == ["admin@bountycoder.com"]
    assert re.search(r'href="/customers\?[^"#]*sort=-email"', page.text)


def test_keys_are_found_by_their_status(browser: FlaskClient, database: SessionFactory) -> None:
    with database.begin() as session:
        for name, values in {
            "works": {},
            "off": {"is_active": False},
            "over": {"expires_at": utc_now() - timedelta(1)},
        }.items():
            key = add_key(session)
            key.name = name
            for column, value in values.items():
                setattr(key, column, value)
    sign_in(browser)

    for status, names in {
        "": ["over", "off", "works"],
        "active": ["works"],
        "inactive": ["off"],
        "expired": ["over"],
    }.items():
        assert names_of(browser.get(f"/keys?status={status}")) == names


def test_customers_see_their_own_keys_alone(
    browser: FlaskClient, database: SessionFactory, customer: User
) -> None:
    with database.begin() as session:
        own, other = add_key(session, customer), add_key(session)
        own.name, other.name = "mine", "theirs"
        other_user = show_id(Prefix.USER, other.user_id)
    sign_in(browser, *CUSTOMER)

    assert names_of(browser.get("/keys")) == ["mine"]
    assert names_of(browser.get(f"/keys?owner={other_user}")) == ["mine"]
    assert names_of(browser.get("/keys?q=theirs")) == []
    assert browser.get(key_path(own)).status_code == 200
    token = csrf(browser.get(f"{key_path(own)}/edit"))
    for path in ("", "/limits", "/series", "/edit", "/rotate", "/delete"):
        assert browser.get(key_path(other) + path).status_code == 404, path
    for path in ("/edit", "/rotate", "/delete"):
        answer = browser.post(key_path(other) + path, data={"csrf_token": token})
        assert answer.status_code == 404, path


def test_emails_are_suggested_by_their_beginning(
    browser: FlaskClient, database: SessionFactory
) -> None:
    with database.begin() as session:
        session.add(User(email="<ada>@example.com", name='"Ada"', password_hash="none"))
        add_user(session)
    sign_in(browser)

    found = browser.get("/customers/suggestions?owner=%3CAD").text

    assert found.strip() == ('<option value="&lt;ada&gt;@example.com">&#34;Ada&#34;</option>')
    assert browser.get("/customers/suggestions?owner=").text.strip() == ""


def test_it_is_said_what_goes_with_a_customer_or_a_key(
    browser: FlaskClient, database: SessionFactory
) -> None:
    with database.begin() as session:
        key = add_key(session)
        user = show_id(Prefix.USER, key.user_id)
        add_key(session, session.get_one(User, key.user_id))
        add_job(session)
        add_job(session, key)
        add_job(session, key, state=JobState.RUNNING)
        add_job(session, key, state=JobState.SUCCEEDED)
        batch = Batch(
            user_id=key.user_id,
            api_key_id=key.id,
            model="m",
            total=10,
            succeeded=4,
            expires_at=utc_now(),
        )
        session.add(batch)
        session.flush()
        add_job(session, key, batch_id=batch.id, line=1, queue="bulk")
    sign_in(browser)

    for page in (f"/customers/{user}/delete", f"{key_path(key)}/delete"):
        said = text_of(browser.get(page))
        assert "2 jobs (1 waiting, 1 running) will be cancelled." in said
        assert "1 open batch with 6 lines to go will be cancelled." in said
    assert "2 API keys will stop working at once." in text_of(
        browser.get(f"/customers/{user}/delete")
    )


def test_what_is_not_there_is_not_found(browser: FlaskClient) -> None:
    sign_in(browser)
    nobody, nothing = show_id(Prefix.USER, new_id()), show_id(Prefix.KEY, new_id())

    for path in (
        f"/customers/{nobody}",
        f"/customers/{nobody}/delete",
        "/customers/x",
        f"/keys/{nothing}",
        f"/keys?owner={nobody}",
    ):
        assert browser.get(path).status_code == 404, path


def test_a_keys_page_works_while_redis_is_away(
    browser: FlaskClient, database: SessionFactory, base_settings: Settings
) -> None:
    with database.begin() as session:
        key = add_key(session)
    sign_in(browser)
    cookie = browser.get_cookie(SESSION_COOKIE)
    assert cookie is not None
    away = base_settings.model_copy(
        update={"redis_url": type(base_settings.redis_url)("redis://127.0.0.1:1/0")}
    )
    without = create_app(Services.from_settings(away)).test_client()
    without.set_cookie(SESSION_COOKIE, cookie.value)

    page = without.get(key_path(key))

    assert page.status_code == 200
    assert "Redis is away" in page.text
