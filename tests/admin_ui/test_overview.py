from __future__ import annotations

import redis
from flask.testing import FlaskClient

from admin_ui.app import create_app
from admin_ui.services import Services
from core.settings import Settings
from core.worker_registry import WorkerRegistry, WorkerStatus
from models.base import SessionFactory, utc_now
from models.job import JobOutcome, JobState
from models.job_changes import finish_job
from models.usage import record_usages
from tests.admin_ui.pages import sign_in, text_of
from tests.models.factories import add_job, add_key, claim_job

SESSION_COOKIE = "bountycoder_session"


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

    page = browser.get("/")

    assert "Users 2 " in text_of(page)
    assert "Tokens today 1,234 " in text_of(page)
    assert "Success today 100% " in text_of(page)
    assert "w-7" in text_of(page)
    assert 'desc="' in page.headers["Server-Timing"]


def test_the_page_works_while_redis_is_away(browser: FlaskClient, base_settings: Settings) -> None:
    sign_in(browser)
    cookie = browser.get_cookie(SESSION_COOKIE)
    assert cookie is not None
    away = base_settings.model_copy(
        update={"redis_url": type(base_settings.redis_url)("redis://127.0.0.1:1/0")}
    )
    without = create_app(Services.from_settings(away)).test_client()
    without.set_cookie(SESSION_COOKIE, cookie.value)

    page = without.get("/")

    assert page.status_code == 200
    assert "Redis is away" in page.text
