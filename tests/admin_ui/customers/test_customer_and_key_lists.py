"""Lists of customers and keys: paging, sorting, search and ownership."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from admin_ui.app import create_app
from admin_ui.services import PageServices
from core.config.settings import Settings
from core.ids import Prefix, format_id, new_id
from models.accounts.api_key import ApiKey
from models.accounts.user import User
from models.batches.batch import Batch
from models.database.base import SessionFactory, utc_now
from models.jobs.job import JobState
from tests.support.browser.pages import SESSION_COOKIE, csrf, sign_in, text_of
from tests.support.factories.rows import add_job, add_key, add_user, hash_quickly

CUSTOMER = ("c@example.com", "customer1")


@pytest.fixture
def customer(database: SessionFactory, admin: User) -> User:
    """A customer without keys."""
    with database.begin() as session:
        user = User(email=CUSTOMER[0], password_hash=hash_quickly(CUSTOMER[1]))
        session.add(user)
    return user


def names_of(page: TestResponse) -> list[str]:
    """Return the text of the first link in each row of the table."""
    return re.findall(r"<tr>\s*<td><a [^>]*>(.*?)</a>", page.text.replace("<wbr>", ""))


def key_path(key: ApiKey) -> str:
    """Return the path of a key's page."""
    return f"/keys/{format_id(Prefix.KEY, key.id)}"


def test_a_list_has_pages(pages_client: FlaskClient, database: SessionFactory) -> None:
    with database.begin() as session:
        for number in range(119):
            user = User(email=f"u{number:03}@example.com", password_hash="none")
            session.add(user)
    sign_in(pages_client)

    first = pages_client.get("/customers?sort=-email")
    last = pages_client.get("/customers?sort=-email&page=3")

    assert names_of(first) == [f"u{number:03}@example.com" for number in range(118, 68, -1)]
    assert "1 to 50 of 120" in text_of(first)
    assert 'href="/customers?sort=-email&amp;page=2" rel="next"' in first.text
    assert 'rel="prev"' not in first.text
    assert names_of(last)[-2:] == ["u000@example.com", "admin@bountycoder.com"]
    assert "101 to 120 of 120" in text_of(last)
    assert 'rel="next"' not in last.text
    assert "The list ends before this page." in pages_client.get("/customers?page=4").text
    assert "1 in all" in text_of(pages_client.get("/customers?q=U077"))


@pytest.mark.parametrize(
    "query",
    [
        *("sort=password", "page=-1", "page=x", "role=king", "sort=%00"),
        *("endpoint=keys.index", "_external=1&_anchor=x", "_method=POST", "self=1"),
    ],
)
def test_a_list_ignores_invalid_parameters(pages_client: FlaskClient, query: str) -> None:
    sign_in(pages_client)

    page = pages_client.get(f"/customers?{query}")

    assert names_of(page) == ["admin@bountycoder.com"]
    assert re.search(r'href="/customers\?[^"#]*sort=-email"', page.text)


def test_keys_are_found_by_their_status(
    pages_client: FlaskClient, database: SessionFactory
) -> None:
    with database.begin() as session:
        for name, values in {
            "active-key": {},
            "inactive-key": {"is_active": False},
            "expired-key": {"expires_at": utc_now() - timedelta(1)},
        }.items():
            key = add_key(session)
            key.name = name
            for column, value in values.items():
                setattr(key, column, value)
    sign_in(pages_client)

    for status, names in {
        "": ["expired-key", "inactive-key", "active-key"],
        "active": ["active-key"],
        "inactive": ["inactive-key"],
        "expired": ["expired-key"],
    }.items():
        assert names_of(pages_client.get(f"/keys?status={status}")) == names


def test_customers_see_only_their_own_keys(
    pages_client: FlaskClient, database: SessionFactory, customer: User
) -> None:
    with database.begin() as session:
        own, other = add_key(session, customer), add_key(session)
        own.name, other.name = "mine", "theirs"
        other_user = format_id(Prefix.USER, other.user_id)
    sign_in(pages_client, *CUSTOMER)

    assert names_of(pages_client.get("/keys")) == ["mine"]
    assert names_of(pages_client.get(f"/keys?owner={other_user}")) == ["mine"]
    assert names_of(pages_client.get("/keys?q=theirs")) == []
    assert pages_client.get(key_path(own)).status_code == 200
    token = csrf(pages_client.get(f"{key_path(own)}/edit"))
    for path in ("", "/limits", "/series", "/edit", "/rotate", "/delete"):
        assert pages_client.get(key_path(other) + path).status_code == 404, path
    for path in ("/edit", "/rotate", "/delete"):
        response = pages_client.post(key_path(other) + path, data={"csrf_token": token})
        assert response.status_code == 404, path


def test_emails_are_suggested_by_their_beginning(
    pages_client: FlaskClient, database: SessionFactory
) -> None:
    with database.begin() as session:
        session.add(User(email="<ada>@example.com", name='"Ada"', password_hash="none"))
        add_user(session)
    sign_in(pages_client)

    found = pages_client.get("/customers/suggestions?owner=%3CAD").text

    assert found.strip() == ('<option value="&lt;ada&gt;@example.com">&#34;Ada&#34;</option>')
    assert pages_client.get("/customers/suggestions?owner=").text.strip() == ""


def test_a_delete_page_counts_the_work_that_it_cancels(
    pages_client: FlaskClient, database: SessionFactory
) -> None:
    with database.begin() as session:
        key = add_key(session)
        user = format_id(Prefix.USER, key.user_id)
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
    sign_in(pages_client)

    for page in (f"/customers/{user}/delete", f"{key_path(key)}/delete"):
        text = text_of(pages_client.get(page))
        assert "2 jobs (1 waiting, 1 running) will be cancelled." in text
        assert "1 open batch with 6 lines to go will be cancelled." in text
    assert "2 API keys will stop working at once." in text_of(
        pages_client.get(f"/customers/{user}/delete")
    )


def test_an_unknown_id_is_not_found(pages_client: FlaskClient) -> None:
    sign_in(pages_client)
    unknown_user, unknown_key = format_id(Prefix.USER, new_id()), format_id(Prefix.KEY, new_id())

    for path in (
        f"/customers/{unknown_user}",
        f"/customers/{unknown_user}/delete",
        "/customers/x",
        f"/keys/{unknown_key}",
        f"/keys?owner={unknown_user}",
    ):
        assert pages_client.get(path).status_code == 404, path


def test_the_page_of_a_key_works_while_redis_is_away(
    pages_client: FlaskClient, database: SessionFactory, base_settings: Settings
) -> None:
    with database.begin() as session:
        key = add_key(session)
    sign_in(pages_client)
    cookie = pages_client.get_cookie(SESSION_COOKIE)
    assert cookie is not None
    away = base_settings.model_copy(
        update={"redis_url": type(base_settings.redis_url)("redis://127.0.0.1:1/0")}
    )
    without = create_app(PageServices.from_settings(away)).test_client()
    without.set_cookie(SESSION_COOKIE, cookie.value)

    page = without.get(key_path(key))

    assert page.status_code == 200
    assert "Redis is away" in page.text
