"""Signing in and out, sessions and their cookies."""

from __future__ import annotations

import pytest
import redis
from flask.testing import FlaskClient
from sqlalchemy import select

from admin_ui.app import create_app
from admin_ui.services import PageServices
from core.config.settings import DEFAULT_ADMIN_PASSWORD, AppEnv, Settings
from models.accounts.audit import AuditEntry
from models.accounts.user import User
from models.database.base import SessionFactory
from tests.support.browser.pages import csrf, sign_in, text_of
from tests.support.factories.rows import ADMIN_EMAIL, ADMIN_PASSWORD, hash_quickly


def test_signing_in_leads_to_the_requested_page(pages_client: FlaskClient) -> None:
    response = pages_client.get("/settings")

    assert (response.status_code, response.location) == (303, "/sign-in?next=/settings")
    assert 'name="next" value="/settings"' in pages_client.get(response.location).text
    assert sign_in(pages_client, wanted="/settings").location == "/settings"


@pytest.mark.parametrize(
    "wanted",
    ["https://evil.example", "//evil.example", "/\\evil.example", "/\t/evil.example", "settings"],
)
def test_signing_in_never_redirects_to_another_site(pages_client: FlaskClient, wanted: str) -> None:
    assert sign_in(pages_client, wanted=wanted).location == "/"


def test_an_admin_signs_in_and_out(pages_client: FlaskClient) -> None:
    assert sign_in(pages_client).location == "/"
    page = pages_client.get("/")
    assert page.status_code == 200
    assert f'title="{ADMIN_EMAIL}"' in page.text
    assert pages_client.get("/sign-in").location == "/"

    pages_client.post("/sign-out", data={"csrf_token": csrf(page)})

    assert pages_client.get("/").location == "/sign-in"


def test_a_planted_session_is_replaced_at_sign_in(pages_client: FlaskClient) -> None:
    """An attacker who sets a browser's cookie must not share the session that begins there."""
    planted = csrf(pages_client.get("/sign-in"))
    cookie = pages_client.get_cookie("bountycoder_session")
    assert cookie is not None

    sign_in(pages_client)

    assert pages_client.post("/sign-out", data={"csrf_token": planted}).status_code == 400
    own_cookie = pages_client.get_cookie("bountycoder_session")
    assert own_cookie is not None and own_cookie.value != cookie.value
    pages_client.set_cookie("bountycoder_session", cookie.value)
    assert pages_client.get("/").status_code == 303


def test_a_copied_cookie_is_refused_after_signing_out(pages_client: FlaskClient) -> None:
    sign_in(pages_client)
    old_cookie = pages_client.get_cookie("bountycoder_session")
    other = pages_client.application.test_client()
    sign_in(other)
    token = csrf(pages_client.get("/settings"))

    assert pages_client.post("/sign-out", data={"csrf_token": token}).status_code == 303

    assert old_cookie is not None
    pages_client.set_cookie("bountycoder_session", old_cookie.value)
    assert pages_client.get("/settings").location.startswith("/sign-in?next=/settings")
    made = pages_client.post("/keys/new", data={"csrf_token": token, "name": "stolen"})
    assert (made.status_code, made.location.split("?")[0]) == (303, "/sign-in")
    assert other.get("/settings").status_code == 200


def test_a_second_sign_in_ends_the_first_session(pages_client: FlaskClient) -> None:
    sign_in(pages_client)
    old_cookie = pages_client.get_cookie("bountycoder_session")
    token = csrf(pages_client.get("/settings"))
    form = {"csrf_token": token, "email": ADMIN_EMAIL, "password": ADMIN_PASSWORD}
    assert pages_client.post("/sign-in", data=form).status_code == 303

    other = pages_client.application.test_client()
    assert old_cookie is not None
    other.set_cookie("bountycoder_session", old_cookie.value)

    assert other.get("/settings").status_code == 303
    assert pages_client.get("/settings").status_code == 200


def test_a_cookie_of_a_version_without_sessions_stays_valid(pages_client: FlaskClient) -> None:
    sign_in(pages_client)
    # Such a cookie has no session id.
    with pages_client.session_transaction() as cookie:
        del cookie["session"]

    assert pages_client.get("/settings").status_code == 200


def test_a_late_response_does_not_undo_signing_out(pages_client: FlaskClient) -> None:
    """A response that arrives after the sign-out must not set the old cookie again."""
    sign_in(pages_client)
    pages_client.get("/")

    assert "Set-Cookie" not in pages_client.get("/live").headers


def test_a_wrong_password_is_refused_and_audited(
    pages_client: FlaskClient, database: SessionFactory
) -> None:
    response = sign_in(pages_client, password="wrong")

    assert response.status_code == 401
    assert "Incorrect email or password." in response.text
    assert pages_client.get("/").location == "/sign-in"
    with database() as session:
        entry = session.scalars(select(AuditEntry)).one()
    assert (entry.action, entry.address) == ("auth.login_failed", "127.0.0.1")


def test_sign_in_is_throttled(
    base_settings: Settings, admin: User, redis_client: redis.Redis
) -> None:
    strict = base_settings.model_copy(update={"login_attempts_per_email": 2})
    pages_client = create_app(PageServices.from_settings(strict)).test_client()
    for _ in range(2):
        assert sign_in(pages_client, password="wrong").status_code == 401

    response = sign_in(pages_client)

    assert response.status_code == 429
    assert "Too many attempts. Try again in 15 minutes." in response.text
    assert 0 < int(response.headers["Retry-After"]) <= strict.login_window_seconds


def test_a_customer_signs_in_too(pages_client: FlaskClient, database: SessionFactory) -> None:
    with database.begin() as session:
        session.add(User(email="c@example.com", password_hash=hash_quickly("customer1")))

    assert sign_in(pages_client, "c@example.com", "customer1").status_code == 303
    assert "c@example.com" in text_of(pages_client.get("/settings")).replace(" ", "")


def test_pages_warn_of_the_default_password(
    pages_client: FlaskClient, database: SessionFactory, admin: User
) -> None:
    assert ADMIN_PASSWORD == DEFAULT_ADMIN_PASSWORD
    sign_in(pages_client)
    assert "still has the default password" in pages_client.get("/").text
    with database.begin() as session:
        session.get_one(User, admin.id).password_hash = hash_quickly("another password")

    other = pages_client.application.test_client()
    sign_in(other, password="another password")

    assert "still has the default password" not in other.get("/").text


def test_a_changed_password_ends_the_session(
    pages_client: FlaskClient, database: SessionFactory, admin: User
) -> None:
    sign_in(pages_client)
    with database.begin() as session:
        session.get_one(User, admin.id).token_version += 1

    ended = pages_client.get("/").location
    assert ended == "/sign-in?ended=1"
    assert "Your session has ended." in text_of(pages_client.get(ended))


def test_pages_and_cookies_are_locked_down(pages_client: FlaskClient) -> None:
    response = pages_client.get("/sign-in")

    assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
    assert response.headers["Cache-Control"] == "no-store"
    cookie = response.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


def test_in_production_the_cookie_needs_tls(base_settings: Settings) -> None:
    production = base_settings.model_copy(update={"app_env": AppEnv.PRODUCTION})
    pages_client = create_app(PageServices.from_settings(production)).test_client()

    response = pages_client.get("/sign-in", base_url="https://admin.example.com")

    assert "; Secure" in response.headers["Set-Cookie"]
    assert response.headers["Strict-Transport-Security"].startswith("max-age=")
