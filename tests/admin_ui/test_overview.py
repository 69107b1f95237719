from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from sqlalchemy import select

from admin_ui.app import create_app
from admin_ui.services import Services
from core.queue import JobQueue, QueueName
from core.settings import Settings
from core.worker_registry import GpuStatus, WorkerRegistry, WorkerStatus
from models.api_key import ApiKey
from models.audit import record_audit
from models.base import SessionFactory, utc_now
from models.job import Job, JobOutcome, JobState
from models.job_changes import finish_job
from models.usage import UsageHourly, record_usages
from models.user import User
from tests.admin_ui.conftest import Look
from tests.admin_ui.pages import sign_in, text_of
from tests.admin_ui.visits import Visitor, Visits
from tests.browser.weight import read_server_timing
from tests.minute import wait_for_room
from tests.models.batches import add_batch
from tests.models.factories import add_job, add_key, claim_job, hash_quickly
from tests.service import Service, wait_until

SESSION_COOKIE = "bountycoder_session"
CUSTOMER = Visitor("ada@example.com", "a-password-of-hers")


def use(database: SessionFactory, key: ApiKey | None, state: JobState, tokens: int) -> None:
    """Let a job of a key end now."""
    with database.begin() as session:
        job = add_job(session, key or add_key(session))
        claim_job(session, job.id, worker_id="w", lease=utc_now() - utc_now())
        outcome = JobOutcome(state, prompt_tokens=tokens, completion_tokens=34)
        ended = finish_job(session, job.id, attempt=1, outcome=outcome)
        assert ended is not None
        record_usages(session, [ended])


@pytest.fixture
def customer(browser: FlaskClient, database: SessionFactory, client: redis.Redis) -> User:
    """A customer who used 1,034 tokens, beside another who used 20,034 in a request that failed.

    The minute has room for a test, so that the charts end with what was used.
    """
    wait_for_room()
    with database.begin() as session:
        user = User(email=CUSTOMER.email, password_hash=hash_quickly(CUSTOMER.password))
        session.add(user)
        session.flush()
        key = add_key(session, user)
        record_audit(session, action="key.create", actor_id=user.id, target_id=key.id)
    use(database, key, JobState.SUCCEEDED, 1000)
    use(database, None, JobState.FAILED, 20_000)
    gpu = GpuStatus("NVIDIA H100", use=0.87, memory_used=60 << 30, memory_total=80 << 30)
    WorkerRegistry(client).report(
        WorkerStatus("w-7", "m", 10, is_ready=True, running=3, cache_use=0.25, gpus=(gpu,))
    )
    return user


def test_an_admin_sees_all(browser: FlaskClient, customer: User) -> None:
    sign_in(browser)

    page = browser.get("/")

    shown = text_of(page)
    assert "Users 3 " in shown and "API keys 2 " in shown
    assert "Tokens today 21.1k " in shown
    assert "Requests per minute 2 2 in the last hour, 2 today" in shown
    assert "Success rate 50.0% " in shown
    assert "ready 1 of 1 worker " in shown
    assert "w-7 m ready 3 0 0 25.0% NVIDIA H100 87.0% busy, 60.0 of 80.0 GiB " in shown
    assert "Waiting, interactive 0 " in shown
    assert "made the API key “key”" in shown
    _, statements = read_server_timing(page.headers["Server-Timing"])
    assert statements is not None and statements <= 12


def test_the_backlog_counts_lines_that_are_on_no_queue_yet(
    browser: FlaskClient, customer: User, database: SessionFactory, client: redis.Redis
) -> None:
    with database.begin() as session:
        batch = add_batch(session, lines=7)
        first = session.scalars(select(Job).where(Job.batch_id == batch.id, Job.line <= 2)).all()
        for job in first:
            job.is_held = False
    JobQueue(client).send_many([job.id for job in first], QueueName.BULK)
    sign_in(browser)

    shown = text_of(browser.get("/"))
    counted = text_of(browser.get("/jobs"))

    assert "Waiting, bulk 7 2 released " in shown
    assert "2 waiting" in counted and "5 lines of batches to come" in counted


def test_a_customer_sees_the_own_part(browser: FlaskClient, customer: User) -> None:
    sign_in(browser, CUSTOMER.email, CUSTOMER.password)

    page = browser.get("/")

    shown = text_of(page)
    assert "Tokens today 1.03k " in shown
    assert "Success rate 100% " in shown
    assert "API keys 1 1 active, " in shown
    assert " ready " in shown
    for hidden in ("w-7", "H100", "Users", "Waiting", "worker", "Recent activity"):
        assert hidden not in shown
    live = browser.get("/live", headers={"HX-Request": "true"})
    assert "Tokens today 1.03k " in text_of(live) and "w-7" not in live.text


def series(browser: FlaskClient, chart: str, over: str) -> list[list[Any]]:
    answer = browser.get(f"/series/{chart}?over={over}").get_json()
    assert all(len(each["values"]) == len(answer["x"]) for each in answer["series"])
    steps = {after - before for before, after in zip(answer["x"], answer["x"][1:], strict=False)}
    assert steps == {answer["step"]}
    return [each["values"] for each in answer["series"]]


@pytest.mark.parametrize(("over", "count"), [("hour", 60), ("day", 24), ("month", 30)])
def test_the_charts_end_with_now(
    browser: FlaskClient, customer: User, over: str, count: int
) -> None:
    sign_in(browser, CUSTOMER.email, CUSTOMER.password)
    (succeeded, unsuccessful) = series(browser, "requests", over)
    (median, p95) = series(browser, "times", over)

    assert succeeded == [0] * (count - 1) + [1]
    assert unsuccessful == [0] * count
    assert median[:-1] == [None] * (count - 1) and median[-1] == p95[-1] >= 0
    assert sum(map(sum, series(browser, "tokens", over))) == 1034

    browser.delete_cookie(SESSION_COOKIE)
    sign_in(browser)
    (succeeded, unsuccessful) = series(browser, "requests", over)
    assert (succeeded[-1], unsuccessful[-1]) == (1, 1)


def test_more_or_less_than_before_is_said_in_words(
    browser: FlaskClient, customer: User, database: SessionFactory
) -> None:
    with database.begin() as session:
        today = session.query(UsageHourly).filter_by(prompt_tokens=20_000).one()
        values = {c.name: getattr(today, c.name) for c in UsageHourly.__table__.columns}
        yesterday = {"hour": today.hour - timedelta(days=1), "prompt_tokens": 42_102}
        session.add(UsageHourly(**{**values, **yesterday}))
    sign_in(browser)

    assert "Tokens today 21.1k ↓ 50% less than yesterday by this hour" in text_of(browser.get("/"))


def test_the_page_works_while_redis_is_away(
    browser: FlaskClient, base_settings: Settings, customer: User
) -> None:
    sign_in(browser)
    cookie = browser.get_cookie(SESSION_COOKIE)
    assert cookie is not None
    away = base_settings.model_copy(
        update={"redis_url": type(base_settings.redis_url)("redis://127.0.0.1:1/0")}
    )
    without = create_app(Services.from_settings(away)).test_client()
    without.set_cookie(SESSION_COOKIE, cookie.value)

    for path in ("/", "/live"):
        page = without.get(path)
        assert page.status_code == 200
        assert "Redis is away: no new work is taken" in text_of(page)
        assert "Tokens today 21.1k " in text_of(page)


@pytest.fixture(scope="module")
def used(site: Service) -> Service:
    """A service with a customer who has a key and used it."""
    made = {"email": CUSTOMER.email, "password": CUSTOMER.password, "role": "customer"}
    site.call("POST", "/api/users", json=made, headers=site.sign_in_admin()).raise_for_status()
    generate(site)
    return site


def generate(service: Service) -> None:
    ada = service.sign_in(CUSTOMER.email, CUSTOMER.password)
    own = {"name": "hers", "rateLimit": 60}
    key = service.call("POST", "/api/keys", json=own, headers=ada).json()
    secret = {"Authorization": f"Bearer {key['secret']}"}
    body = {"prompt": "one two three", "maxTokens": 8}
    assert service.call("POST", "/api/llm/generate", json=body, headers=secret).ok


def test_the_figures_follow_without_a_reload(
    used: Service, visits: Visits, the_admin: Visitor
) -> None:
    page = visits.open("/?over=hour", visitor=the_admin)
    page.evaluate("() => { window.isTheSame = true; }")
    page.get_by_role("region", name="Workers").focus()
    keys = page.locator(".figure", has_text="API keys").locator("dd").first
    before = int(keys.inner_text())

    generate(used)

    wait_until(lambda: int(keys.inner_text()) == before + 1, 20)
    assert page.evaluate("() => window.isTheSame && document.activeElement.id") == "workers"


def test_the_charts_tell_what_the_cursor_is_at(
    used: Service, visits: Visits, the_admin: Visitor
) -> None:
    page = visits.open("/", visitor=the_admin, timezone="Asia/Kolkata")
    plot = page.locator("figure", has_text="Requests").locator(".u-over")
    box = plot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 3, box["y"] + 20)

    tip = plot.locator(".tip").inner_text()
    assert "Succeeded: 1" in tip or "Succeeded: 2" in tip
    assert ":30" in tip  # hours of UTC begin at half past in India
    page.get_by_role("link", name="30 days").click()
    page.wait_for_selector(".uplot")
    assert "over=month" in page.url


@pytest.mark.parametrize("over", ["hour", "day"])
def test_the_dashboard_looks_right(
    used: Service, visits: Visits, the_admin: Visitor, look: Look, over: str
) -> None:
    page = visits.open(f"/?over={over}", visitor=the_admin)
    page.wait_for_selector(".uplot")

    look(page, f"dashboard-{over}")


def test_a_customers_dashboard_looks_right(used: Service, visits: Visits, look: Look) -> None:
    page = visits.open("/", visitor=CUSTOMER)
    page.wait_for_selector(".uplot")

    look(page, "dashboard-customer")
