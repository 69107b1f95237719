"""The usage page: totals, groups, filters, charts and the CSV file."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta

import pytest
from flask.testing import FlaskClient
from playwright.sync_api import expect

from core.ids import Prefix, format_id
from models.accounts.api_key import ApiKey, create_key
from models.accounts.user import User
from models.database.base import SessionFactory, utc_now
from models.jobs.job import JobState
from models.usage.usage import record_usages
from tests.admin_ui.conftest import PageCheck
from tests.support.browser.pages import sign_in, text_of
from tests.support.browser.visits import Viewer, Visits
from tests.support.factories.rows import add_job, hash_quickly
from tests.support.service import Service

ADA = Viewer("ada@example.com", "a-password-of-hers")
DAY = timedelta(days=1)


def add_user(database: SessionFactory, email: str) -> User:
    """Add a customer with Ada's password."""
    with database.begin() as session:
        user = User(email=email, password_hash=hash_quickly(ADA.password))
        session.add(user)
    return user


def add_key(database: SessionFactory, user: User, name: str) -> ApiKey:
    """Add a key of a user."""
    with database.begin() as session:
        return create_key(session, user_id=user.id, name=name, rate_limit=60)[0]


def use(
    database: SessionFactory,
    key: ApiKey,
    tokens: int,
    *,
    at: datetime | None = None,
    ms: int = 100,
    state: JobState = JobState.SUCCEEDED,
    model: str = "m",
) -> None:
    """Record a job that ended `at`.

    Args:
        tokens: of the prompt; the completion has one token.
        at: now by default.
        ms: how long the job ran.
    """
    at = at or utc_now()
    began = at - timedelta(milliseconds=ms)
    with database.begin() as session:
        job = add_job(session, key, state=state, model=model, created_at=began, started_at=began)
        job.finished_at, job.prompt_tokens, job.completion_tokens = at, tokens, 1
        record_usages(session, [job])


@pytest.fixture
def keys(pages_client: FlaskClient, database: SessionFactory) -> dict[str, ApiKey]:
    """Two keys of Ada and one of Bob, used today, yesterday and 90 days ago."""
    ada, bob = add_user(database, ADA.email), add_user(database, "bob@example.com")
    keys = {
        "first": add_key(database, ada, "first"),
        "second": add_key(database, ada, '=HYPERLINK("x")'),
        "his": add_key(database, bob, "his"),
    }
    use(database, keys["first"], 1000, ms=100)
    use(database, keys["first"], 500, ms=900, state=JobState.FAILED, at=utc_now() - DAY)
    use(database, keys["second"], 3000, model="other")
    use(database, keys["his"], 80_000, ms=5000)
    use(database, keys["his"], 700_000, at=utc_now() - 90 * DAY)
    return keys


def rows(pages_client: FlaskClient, query: str = "") -> list[list[str]]:
    """Return the cells of the CSV file, one list for each group."""
    response = pages_client.get(f"/usage/usage.csv?{query}")
    assert response.content_type == "text/csv; charset=utf-8"
    head, *lines = csv.reader(response.text.splitlines())
    assert head[:4] == ["group", "name", "owner", "requests"]
    return lines


def test_an_admin_sees_who_used_most(pages_client: FlaskClient, keys: dict[str, ApiKey]) -> None:
    sign_in(pages_client)

    text = text_of(pages_client.get("/usage"))

    assert "Tokens 84.5k 84.5k of prompts, 4 of completions" in text
    assert "Requests 4 1 failed or were cancelled" in text
    assert "Success rate 75.0% 25.0% not successful" in text
    assert "Cost" not in text  # without prices
    assert text.index("bob@ example. com") < text.index("ada@ example. com")
    assert [
        (row[1], row[3], row[10]) for row in sorted(rows(pages_client), key=lambda row: row[1])
    ] == [
        (ADA.email, "3", "4503"),
        ("bob@example.com", "1", "80001"),
    ]


def test_a_customer_sees_only_own_usage(pages_client: FlaskClient, keys: dict[str, ApiKey]) -> None:
    sign_in(pages_client, ADA.email, ADA.password)
    bobs_key = format_id(Prefix.KEY, keys["his"].id)

    page = pages_client.get("/usage?range=year&by=user")  # groups by user are for admins

    assert "By API key" in text_of(page) and "first" in page.text
    assert "bob" not in page.text and "his" not in text_of(page).split()
    assert "Tokens 4.5k " in text_of(page)
    assert {row[1] for row in rows(pages_client, "by=user")} == {"first", '\'=HYPERLINK("x")'}
    bob = format_id(Prefix.USER, keys["his"].user_id)
    assert sum(int(row[3]) for row in rows(pages_client, f"user={bob}")) == 3, "the filter is void"
    refused = pages_client.get(f"/usage?key={bobs_key}")
    assert refused.status_code == 400 and "There is no such key" in refused.text
    assert pages_client.get(f"/usage/usage.csv?key={bobs_key}").status_code == 404
    assert pages_client.get(f"/usage/series/tokens?key={bobs_key}").status_code == 404


def test_filters_and_times(pages_client: FlaskClient, keys: dict[str, ApiKey]) -> None:
    sign_in(pages_client)
    first = format_id(Prefix.KEY, keys["first"].id)
    today, yesterday = (f"{utc_now() - n * DAY:%Y-%m-%d}" for n in (0, 1))
    long_ago = f"{utc_now() - 90 * DAY:%Y-%m-%d}"

    assert {row[1] for row in rows(pages_client, "by=key&user=BOB@example.com")} == {"his"}
    assert [row[0] for row in rows(pages_client, f"by=day&key={first}")] == [
        f"{today}T00:00:00Z",
        f"{yesterday}T00:00:00Z",
    ]
    assert [row[10] for row in rows(pages_client, f"by=day&key={first}&range=today")] == ["1001"]
    assert [row[0] for row in rows(pages_client, "by=model&model=other")] == ["other"]
    one_day = f"from={long_ago}&to={long_ago}"
    assert [row[10] for row in rows(pages_client, f"by=user&{one_day}")] == ["700001"]
    text = text_of(pages_client.get(f"/usage?by=key&from={yesterday}&to={yesterday}"))
    assert "Requests 1 1 failed" in text and "Success rate 0% 100% not" in text
    for invalid in (
        "user=unknown@example.com",
        "key=key_1",
        "from=1999",
        f"from={today}&to=2020-01-01",
        "from=2001-01-01",
    ):
        assert pages_client.get(f"/usage?{invalid}").status_code == 400
    assert "No usage in this period." in pages_client.get("/usage?model=unknown").text


def test_the_columns_sort(pages_client: FlaskClient, keys: dict[str, ApiKey]) -> None:
    sign_in(pages_client)

    def order(sort: str) -> list[str]:
        text = text_of(pages_client.get(f"/usage?by=key&sort={sort}"))
        places = {
            name: text.index(f" {name} ")
            for name in ("first", "HYPERLINK", "his")
            if f" {name} " in text
        }
        places["second"] = text.index("HYPERLINK")
        places.pop("HYPERLINK", None)
        return sorted(places, key=lambda name: places[name])

    assert order("-tokens") == ["his", "second", "first"]
    assert order("tokens") == ["first", "second", "his"]
    assert order("-requests")[0] == "first"
    assert order("success")[0] == "first"
    assert order("-mean") == ["his", "first", "second"]


def test_the_csv_has_the_order_of_the_page(
    pages_client: FlaskClient, keys: dict[str, ApiKey]
) -> None:
    sign_in(pages_client)

    def order(query: str) -> list[str]:
        return [row[1] for row in rows(pages_client, query)]

    assert order("by=key") == ["his", '\'=HYPERLINK("x")', "first"]
    assert order("by=key&sort=tokens") == ["first", '\'=HYPERLINK("x")', "his"]
    assert order("by=key&sort=-requests")[0] == "first"


def test_a_report_has_numbered_pages(
    pages_client: FlaskClient, database: SessionFactory, admin: User
) -> None:
    with database.begin() as session:
        made = [
            create_key(session, user_id=admin.id, name=f"k{n}", rate_limit=60) for n in range(51)
        ]
    for key, _ in made:
        use(database, key, 10)
    sign_in(pages_client)

    first, second = (pages_client.get(f"/usage?by=key{page}") for page in ("", "&page=2"))
    beyond = pages_client.get("/usage?by=key&page=900")

    assert "1 to 50 of 51" in text_of(first) and 'rel="next"' in first.text
    assert "51 to 51 of 51" in text_of(second) and 'rel="prev"' in second.text
    assert "The list ends before this page." in beyond.text and "<table" not in beyond.text


def test_a_poor_success_rate_has_the_colour_of_the_dashboard(
    pages_client: FlaskClient, keys: dict[str, ApiKey]
) -> None:
    sign_in(pages_client)

    poor, good = pages_client.get("/usage"), pages_client.get("/usage?range=today")

    assert 'class="figure bad"><dt>Success rate' in poor.text
    assert 'class="figure "><dt>Success rate' in good.text


def test_a_chart_has_every_hour_or_day(pages_client: FlaskClient, keys: dict[str, ApiKey]) -> None:
    sign_in(pages_client)

    days = pages_client.get("/usage/series/tokens?range=7d").get_json()
    hours = pages_client.get("/usage/series/tokens?range=today&user=bob@example.com").get_json()

    assert days["step"] == 24 * 3600 and len(days["x"]) == 7
    assert sum(days["series"][1]["values"]) == 84_500
    assert hours["step"] == 3600 and len(hours["x"]) == datetime.now(UTC).hour + 1
    assert hours["series"][1]["values"][-1] == 80_000


@pytest.fixture(scope="module")
def used_service(ui_service: Service) -> Service:
    """A service whose admin and customer have each used a key."""
    made = {"email": ADA.email, "password": ADA.password, "role": "customer"}
    admin = ui_service.sign_in_admin()
    ui_service.call("POST", "/api/users", json=made, headers=admin).raise_for_status()
    for name, headers in (("<hers>", ui_service.sign_in(ADA.email, ADA.password)), ("ours", admin)):
        key = ui_service.call("POST", "/api/keys", json={"name": name}, headers=headers).json()
        secret = {"Authorization": f"Bearer {key['secret']}"}
        body = {"prompt": "one two three", "maxTokens": 8}
        assert ui_service.call("POST", "/api/llm/generate", json=body, headers=secret).ok
    return ui_service


def test_a_group_of_a_report_opens_in_detail(
    used_service: Service, visits: Visits, admin_viewer: Viewer
) -> None:
    page = visits.open("/usage", viewer=admin_viewer)
    page.wait_for_selector(".uplot")

    page.get_by_role("link", name=ADA.email).click()
    assert page.get_by_label("User").input_value() == ADA.email
    page.get_by_role("link", name="<hers>").click()
    page.get_by_role("link", name=f"{utc_now():%Y-%m-%d}").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="Tokens").click()
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("Tokens")
    page.get_by_role("link", name="This month").click()
    page.get_by_label("By").select_option("model")
    page.get_by_role("button", name="Show").click()
    assert page.locator(".choices [aria-current]").inner_text() == "This month"
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    assert download.value.suggested_filename.startswith("usage-by-model-")
    lines = download.value.path().read_text().splitlines()
    assert len(lines) == 2 and lines[1].split(",")[3] == "1"


@pytest.mark.parametrize("role", ["admin", "customer"])
def test_the_usage_page_has_no_faults(
    used_service: Service, visits: Visits, admin_viewer: Viewer, check_page: PageCheck, role: str
) -> None:
    page = visits.open("/usage", viewer=admin_viewer if role == "admin" else ADA)
    page.wait_for_selector(".uplot")

    check_page(page, f"usage-{role}")
