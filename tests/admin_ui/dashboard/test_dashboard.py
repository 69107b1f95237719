"""The dashboard: figures, charts and workers, for admins and customers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from sqlalchemy import select

from admin_ui.app import create_app
from admin_ui.services import PageServices
from core.config.settings import Settings
from core.queueing.broker import JobQueue
from core.queueing.names import QueueName
from core.queueing.workers import GpuStatus, WorkerRegistry, WorkerStatus
from models.accounts.api_key import ApiKey
from models.accounts.audit import record_audit
from models.accounts.user import User
from models.database.base import SessionFactory, utc_now
from models.jobs.job import Job, JobState
from models.jobs.outcome import JobOutcome
from models.jobs.transitions import finish_job
from models.usage.usage import UsageHourly, record_usages
from tests.admin_ui.conftest import PageCheck
from tests.support.browser.pages import SESSION_COOKIE, sign_in, text_of
from tests.support.browser.visits import Viewer, Visits
from tests.support.browser.weight import read_server_timing
from tests.support.factories.batches import add_batch
from tests.support.factories.rows import add_job, add_key, claim_job, hash_quickly
from tests.support.minute import wait_for_room
from tests.support.polling import wait_until
from tests.support.service import Service

CUSTOMER = Viewer("ada@example.com", "a-password-of-hers")


def use(database: SessionFactory, key: ApiKey | None, state: JobState, tokens: int) -> None:
    """Record a job of a key, or of a new customer's key, that ends now."""
    with database.begin() as session:
        job = add_job(session, key or add_key(session))
        claim_job(session, job.id, worker_id="w", lease=utc_now() - utc_now())
        outcome = JobOutcome(state, prompt_tokens=tokens, completion_tokens=34)
        ended = finish_job(session, job.id, attempt=1, outcome=outcome)
        assert ended is not None
        record_usages(session, [ended])


@pytest.fixture
def customer(
    pages_client: FlaskClient, database: SessionFactory, redis_client: redis.Redis
) -> User:
    """A customer who used 1,034 tokens; another one used 20,034 in a failed request.

    The rest of the minute is long enough for a test, so that the charts end with this usage.
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
    WorkerRegistry(redis_client).report(
        WorkerStatus("w-7", "m", 10, is_ready=True, running=3, cache_use=0.25, gpus=(gpu,))
    )
    return user


def test_an_admin_sees_all(pages_client: FlaskClient, customer: User) -> None:
    sign_in(pages_client)

    page = pages_client.get("/")

    text = text_of(page)
    assert "Users 3 " in text and "API keys 2 " in text
    assert "Tokens today 21.1k " in text
    assert "Requests per minute 2 2 in the last hour, 2 today" in text
    assert "Success rate 50.0% " in text
    assert "ready 1 of 1 worker " in text
    assert "w-7 m ready 3 0 0 25.0% NVIDIA H100 87.0% busy, 60.0 of 80.0 GiB " in text
    assert "Waiting, interactive 0 " in text
    assert "created the API key “key”" in text
    _, statements = read_server_timing(page.headers["Server-Timing"])
    assert statements is not None and statements <= 12


def test_the_backlog_includes_held_batch_lines(
    pages_client: FlaskClient, customer: User, database: SessionFactory, redis_client: redis.Redis
) -> None:
    with database.begin() as session:
        batch = add_batch(session, lines=7)
        first = session.scalars(select(Job).where(Job.batch_id == batch.id, Job.line <= 2)).all()
        for job in first:
            job.is_held = False
    JobQueue(redis_client).send_many([job.id for job in first], QueueName.BULK)
    sign_in(pages_client)

    text = text_of(pages_client.get("/"))
    jobs_page = text_of(pages_client.get("/jobs"))

    assert "Waiting, bulk 7 2 released " in text
    assert "2 waiting" in jobs_page and "5 batch lines to come" in jobs_page


def test_a_customer_sees_only_own_figures(pages_client: FlaskClient, customer: User) -> None:
    sign_in(pages_client, CUSTOMER.email, CUSTOMER.password)

    page = pages_client.get("/")

    text = text_of(page)
    assert "Tokens today 1.03k " in text
    assert "Success rate 100% " in text
    assert "API keys 1 1 active, " in text
    assert " ready " in text
    for hidden in ("w-7", "H100", "Users", "Waiting", "worker", "Recent activity"):
        assert hidden not in text
    live = pages_client.get("/live", headers={"HX-Request": "true"})
    assert "Tokens today 1.03k " in text_of(live) and "w-7" not in live.text


def series(pages_client: FlaskClient, chart: str, over: str) -> list[list[Any]]:
    """Return the values of a chart, one list for each series; check that its steps are equal."""
    chart_data = pages_client.get(f"/series/{chart}?over={over}").get_json()
    assert all(len(each["values"]) == len(chart_data["x"]) for each in chart_data["series"])
    steps = {
        after - before for before, after in zip(chart_data["x"], chart_data["x"][1:], strict=False)
    }
    assert steps == {chart_data["step"]}
    return [each["values"] for each in chart_data["series"]]


@pytest.mark.parametrize(("over", "count"), [("hour", 60), ("day", 24), ("month", 30)])
def test_the_charts_end_with_now(
    pages_client: FlaskClient, customer: User, over: str, count: int
) -> None:
    sign_in(pages_client, CUSTOMER.email, CUSTOMER.password)
    (succeeded, unsuccessful) = series(pages_client, "requests", over)
    (median, p95) = series(pages_client, "times", over)

    assert succeeded == [0] * (count - 1) + [1]
    assert unsuccessful == [0] * count
    assert median[:-1] == [None] * (count - 1) and median[-1] == p95[-1] >= 0
    assert sum(map(sum, series(pages_client, "tokens", over))) == 1034

    pages_client.delete_cookie(SESSION_COOKIE)
    sign_in(pages_client)
    (succeeded, unsuccessful) = series(pages_client, "requests", over)
    assert (succeeded[-1], unsuccessful[-1]) == (1, 1)


def test_a_figure_has_its_change_since_yesterday(
    pages_client: FlaskClient, customer: User, database: SessionFactory
) -> None:
    with database.begin() as session:
        today = session.query(UsageHourly).filter_by(prompt_tokens=20_000).one()
        values = {c.name: getattr(today, c.name) for c in UsageHourly.__table__.columns}
        yesterday = {"hour": today.hour - timedelta(days=1), "prompt_tokens": 42_102}
        session.add(UsageHourly(**{**values, **yesterday}))
    sign_in(pages_client)

    assert "Tokens today 21.1k ↓ 50% less than yesterday by this hour" in text_of(
        pages_client.get("/")
    )


def test_the_page_works_while_redis_is_away(
    pages_client: FlaskClient, base_settings: Settings, customer: User
) -> None:
    sign_in(pages_client)
    cookie = pages_client.get_cookie(SESSION_COOKIE)
    assert cookie is not None
    away = base_settings.model_copy(
        update={"redis_url": type(base_settings.redis_url)("redis://127.0.0.1:1/0")}
    )
    without = create_app(PageServices.from_settings(away)).test_client()
    without.set_cookie(SESSION_COOKIE, cookie.value)

    for path in ("/", "/live"):
        page = without.get(path)
        assert page.status_code == 200
        assert "Redis is away: no new requests are accepted" in text_of(page)
        assert "Tokens today 21.1k " in text_of(page)


@pytest.fixture(scope="module")
def used_service(ui_service: Service) -> Service:
    """A service with a customer who used a key."""
    made = {"email": CUSTOMER.email, "password": CUSTOMER.password, "role": "customer"}
    ui_service.call(
        "POST", "/api/users", json=made, headers=ui_service.sign_in_admin()
    ).raise_for_status()
    generate(ui_service)
    return ui_service


def generate(service: Service) -> None:
    """Create a key of the customer, and send a generate request with it."""
    ada = service.sign_in(CUSTOMER.email, CUSTOMER.password)
    own = {"name": "hers", "rateLimit": 60}
    key = service.call("POST", "/api/keys", json=own, headers=ada).json()
    secret = {"Authorization": f"Bearer {key['secret']}"}
    body = {"prompt": "one two three", "maxTokens": 8}
    assert service.call("POST", "/api/llm/generate", json=body, headers=secret).ok


def test_the_figures_follow_without_a_reload(
    used_service: Service, visits: Visits, admin_viewer: Viewer
) -> None:
    page = visits.open("/?over=hour", viewer=admin_viewer)
    page.evaluate("() => { window.isTheSame = true; }")
    page.get_by_role("region", name="Workers").focus()
    keys = page.locator(".figure", has_text="API keys").locator("dd").first
    before = int(keys.inner_text())

    generate(used_service)

    wait_until(lambda: int(keys.inner_text()) == before + 1, 20)
    assert page.evaluate("() => window.isTheSame && document.activeElement.id") == "workers"


def test_a_chart_has_a_tooltip_with_the_values_at_the_cursor(
    used_service: Service, visits: Visits, admin_viewer: Viewer
) -> None:
    page = visits.open("/", viewer=admin_viewer, timezone="Asia/Kolkata")
    plot = page.locator("figure", has_text="Requests").locator(".u-over")
    box = plot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 3, box["y"] + 20)

    tip = plot.locator(".tip").inner_text()
    assert "Succeeded: 1" in tip or "Succeeded: 2" in tip
    assert ":30" in tip  # an hour of UTC begins at half past in India
    page.get_by_role("link", name="30 days").click()
    page.wait_for_selector(".uplot")
    assert "over=month" in page.url


@pytest.mark.parametrize("over", ["hour", "day"])
def test_the_dashboard_has_no_faults(
    used_service: Service, visits: Visits, admin_viewer: Viewer, check_page: PageCheck, over: str
) -> None:
    page = visits.open(f"/?over={over}", viewer=admin_viewer)
    page.wait_for_selector(".uplot")

    check_page(page, f"dashboard-{over}")


def test_the_dashboard_of_a_customer_has_no_faults(
    used_service: Service, visits: Visits, check_page: PageCheck
) -> None:
    page = visits.open("/", viewer=CUSTOMER)
    page.wait_for_selector(".uplot")

    check_page(page, "dashboard-customer")
