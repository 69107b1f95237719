"""The admin pages over a real database and Valkey, as a browser without JavaScript walks them."""

from __future__ import annotations

import re

import pytest
import redis
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from admin_ui.app import create_app
from admin_ui.services import Services
from core.passwords import hash_password
from core.settings import Settings
from core.worker_registry import WorkerRegistry, WorkerStatus
from models.base import SessionFactory, utc_now
from models.job import JobOutcome, JobState
from models.job_changes import finish_job
from models.usage import record_usages
from models.user import User
from tests.conftest import ADMIN_EMAIL, ADMIN_PASSWORD
from tests.models.factories import add_job, add_key, claim_job


@pytest.fixture
def browser(base_settings: Settings, admin: User, client: redis.Redis) -> FlaskClient:
    return create_app(Services.from_settings(base_settings)).test_client()


def csrf(page: TestResponse) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
    assert found
    return found[1]


def sign_in(
    browser: FlaskClient, email: str = ADMIN_EMAIL, password: str = ADMIN_PASSWORD
) -> TestResponse:
    token = csrf(browser.get("/sign-in"))
    form = {"csrf_token": token, "email": email, "password": password}
    return browser.post("/sign-in", data=form)


def test_a_stranger_is_sent_to_sign_in(browser: FlaskClient) -> None:
    answer = browser.get("/")

    assert (answer.status_code, answer.location) == (303, "/sign-in")


def test_an_admin_signs_in_and_out(browser: FlaskClient) -> None:
    assert sign_in(browser).location == "/"
    page = browser.get("/")
    assert page.status_code == 200
    assert ADMIN_EMAIL in page.text

    browser.post("/sign-out", data={"csrf_token": csrf(page)})

    assert browser.get("/").location == "/sign-in"


def test_a_wrong_password_is_told_beside_the_form(browser: FlaskClient) -> None:
    answer = sign_in(browser, password="wrong")

    assert answer.status_code == 401
    assert "The email or the password is wrong." in answer.text
    assert browser.get("/").location == "/sign-in"


def test_a_customer_is_not_let_in(browser: FlaskClient, database: SessionFactory) -> None:
    with database.begin() as session:
        session.add(User(email="c@example.com", password_hash=hash_password("customer1")))

    assert sign_in(browser, "c@example.com", "customer1").status_code == 403
    assert browser.get("/").location == "/sign-in"


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out"])
@pytest.mark.parametrize("token", [None, "", "forged"])
def test_a_form_without_its_token_is_refused(
    browser: FlaskClient, path: str, token: str | None
) -> None:
    browser.get("/sign-in")
    form = {"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD}

    answer = browser.post(path, data=form if token is None else {**form, "csrf_token": token})

    assert answer.status_code == 400
    assert browser.get("/").location == "/sign-in"


def test_a_changed_password_ends_the_session(
    browser: FlaskClient, database: SessionFactory, admin: User
) -> None:
    sign_in(browser)
    with database.begin() as session:
        session.get_one(User, admin.id).token_version += 1

    assert browser.get("/").location == "/sign-in"


def test_the_overview_shows_what_is_in_the_database(
    browser: FlaskClient, database: SessionFactory, client: redis.Redis
) -> None:
    with database.begin() as session:
        job = add_job(session, add_key(session))
        claim_job(session, job.id, worker_id="w", lease=utc_now() - utc_now())
        outcome = JobOutcome(JobState.SUCCEEDED, prompt_tokens=1200, completion_tokens=34)
        ended = finish_job(session, job.id, attempt=1, outcome=outcome)
        assert ended is not None
        record_usages(session, [ended])
    WorkerRegistry(client).report(
        WorkerStatus(worker_id="w-7", model="m", context_length=10, is_ready=True, running=3)
    )
    sign_in(browser)

    text = re.sub(r"<[^>]+>|\s+", " ", browser.get("/").text)
    text = re.sub(r" +", " ", text)

    assert "Users 2 " in text
    assert "Tokens today 1,234 " in text
    assert "Success today 100.0% " in text
    assert "w-7" in text


def test_the_page_works_while_redis_is_away(base_settings: Settings, admin: User) -> None:
    away = base_settings.model_copy(
        update={"redis_url": type(base_settings.redis_url)("redis://127.0.0.1:1/0")}
    )
    browser = create_app(Services.from_settings(away)).test_client()
    sign_in(browser)

    page = browser.get("/")

    assert page.status_code == 200
    assert "Redis is away" in page.text


def test_pages_and_cookies_are_locked_down(browser: FlaskClient) -> None:
    answer = browser.get("/sign-in")

    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
