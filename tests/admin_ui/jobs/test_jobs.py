"""The pages of jobs for owners and admins, with a service that takes seconds for a completion."""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests
from playwright.sync_api import Page, expect

from tests.admin_ui.conftest import PageCheck
from tests.support.browser.visits import Viewer, Visits
from tests.support.polling import wait_until
from tests.support.service import Service

PROMPT = "def add(a, b):\n    return a + b\n\n"
CUSTOMER = Viewer("jane@example.com", "customer password")


@pytest.fixture(scope="module")
def ui_service(slow_service: Service) -> Service:
    """The slow service with an admin UI."""
    slow_service.start_admin_ui()
    return slow_service


@pytest.fixture(scope="module")
def key(ui_service: Service) -> dict[str, Any]:
    """A key of the admin."""
    return ui_service.make_key(name="trial")


@pytest.fixture(scope="module")
def customer_key(ui_service: Service) -> dict[str, Any]:
    """A customer's key."""
    body = {"email": CUSTOMER.email, "password": CUSTOMER.password, "name": "Jane"}
    assert ui_service.call("POST", "/api/auth/register", json=body).status_code == 201
    headers = ui_service.sign_in(CUSTOMER.email, CUSTOMER.password)
    made = ui_service.call("POST", "/api/keys", json={"name": "janes"}, headers=headers)
    assert made.status_code == 201, made.text
    return dict(made.json())


def submit(ui_service: Service, key: dict[str, Any], prompt: str = "hello", **more: Any) -> str:
    """Submit a job through the API, and return its id."""
    body = {"prompt": prompt, "promptMode": "raw", "temperature": 0, **more}
    response = ui_service.call(
        "POST", "/api/llm/jobs", json=body, headers={"x-api-key": key["secret"]}
    )
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def read_job(ui_service: Service, key: dict[str, Any], job: str) -> dict[str, Any]:
    """Return a job as the API describes it."""
    return dict(
        ui_service.call("GET", f"/api/llm/jobs/{job}", headers={"x-api-key": key["secret"]}).json()
    )


def wait_for_end(ui_service: Service, key: dict[str, Any], job: str) -> dict[str, Any]:
    """Wait until a job is final, and return it."""

    def is_final() -> bool:
        return read_job(ui_service, key, job)["status"] not in {"queued", "running"}

    wait_until(is_final, 30, ui_service.logs)
    return read_job(ui_service, key, job)


def ids_of(page: Page) -> list[str]:
    """Return the ids of the listed jobs, in their order."""
    page.wait_for_load_state()  # a click returns before the next page is loaded
    return [link.get_attribute("id") or "" for link in page.locator("tbody a").all()]


def test_rows_are_updated_in_place_and_new_jobs_are_counted(
    visits: Visits,
    admin_viewer: Viewer,
    ui_service: Service,
    key: dict[str, Any],
    check_page: PageCheck,
) -> None:
    page = visits.open("/settings", viewer=admin_viewer)  # signing in takes time
    done = submit(ui_service, key)
    wait_for_end(ui_service, key, done)
    slow = submit(ui_service, key, PROMPT * 8)
    page.goto("/jobs")
    assert ids_of(page)[:2] == [slow, done]
    row = page.locator("tr", has=page.locator(f"#{slow}"))
    assert row.locator("td").nth(-2).inner_text() == "–"  # the duration of an open job
    expect(row.locator(".state")).to_have_text(re.compile("queued|running"))
    row.get_by_role("link").focus()

    newer = submit(ui_service, key)

    expect(page.locator("#now")).to_contain_text("1 new: show")
    expect(row.locator(".state")).to_have_text("succeeded")
    assert ids_of(page)[:2] == [slow, done]
    expect(row.get_by_role("link")).to_be_focused()
    page.get_by_role("link", name="1 new: show").click()
    assert ids_of(page)[0] == newer
    check_page(page, "jobs")


def test_batch_lines_are_listed_with_other_jobs(
    visits: Visits, admin_viewer: Viewer, ui_service: Service, key: dict[str, Any]
) -> None:
    alone = submit(ui_service, key)
    body = '{"prompt": "", "custom_id": "bad"}\n{"prompt": "good"}\n'
    headers = {"x-api-key": key["secret"], "Content-Type": "application/jsonl"}
    sent = ui_service.call("POST", "/api/llm/batches?onError=skip", data=body, headers=headers)
    assert sent.status_code == 201, sent.text
    page = visits.open("/jobs", viewer=admin_viewer)

    def listed(source: str, state: str = "any") -> list[str]:
        page.get_by_label("Source").select_option(source)
        page.get_by_label("State").select_option(state)
        page.get_by_role("button", name="Filter").click()
        return ids_of(page)

    both, api, lines = (listed(source) for source in ("All", "API", "Batch"))
    assert alone in api and alone in both and alone not in lines
    assert len(lines) == 2 and set(lines) < set(both)
    assert len(listed("All", "failed")) == 1


def test_an_owner_filter_contains_the_email(
    visits: Visits, admin_viewer: Viewer, ui_service: Service, customer_key: dict[str, Any]
) -> None:
    owner = customer_key["userId"]
    fields = {"/jobs?user": "Owner", "/batches?user": "Owner", "/activity?actor": "Who"}
    for path, field in fields.items():
        page = visits.open(f"{path}={owner}", viewer=admin_viewer)
        assert page.get_by_label(field).input_value() == CUSTOMER.email


def test_filters_narrow_the_list(
    visits: Visits,
    admin_viewer: Viewer,
    ui_service: Service,
    key: dict[str, Any],
    customer_key: dict[str, Any],
) -> None:
    admins_job, customers_job = submit(ui_service, key), submit(ui_service, customer_key)
    page = visits.open("/jobs", viewer=admin_viewer, provoked=["^400 GET "])

    page.get_by_label("Owner").fill(CUSTOMER.email)
    page.get_by_role("button", name="Filter").click()
    assert customers_job in ids_of(page) and admins_job not in ids_of(page)
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("API key").fill(key["id"])
    page.get_by_role("button", name="Filter").click()
    assert admins_job in ids_of(page) and customers_job not in ids_of(page)
    page.get_by_label("State").select_option("expired")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(".empty")).to_contain_text("No jobs match these filters.")
    page.get_by_label("API key").fill("nonsense")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#key-fault")).to_be_visible()
    page.locator("#job").fill(customers_job)
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("h1")).to_contain_text(customers_job)


def test_the_page_of_a_job_refreshes_until_the_end(
    visits: Visits,
    admin_viewer: Viewer,
    ui_service: Service,
    key: dict[str, Any],
    check_page: PageCheck,
) -> None:
    job = submit(ui_service, key, PROMPT * 8, metadata={"ticket": "BC-7"})
    page = visits.open(f"/jobs/{job}", viewer=admin_viewer)
    text = page.locator("#text pre")
    expect(text).to_contain_text("return a + b")
    assert len(text.text_content() or "") < len(PROMPT * 8)

    expect(page.locator("#live[data-final]")).to_be_visible()

    ended = read_job(ui_service, key, job)
    expect(page.locator("#text")).to_have_count(0)
    expect(page.get_by_label("Completion 1")).to_have_text(PROMPT * 8)
    figures = page.locator("#live .figures")
    expect(figures).to_contain_text(f"Tokens billed{ended['usage']['total_tokens']}")
    expect(page.locator(".facts").first).to_contain_text("BC-7")
    expect(page.get_by_label("prompt", exact=True)).to_have_text(PROMPT * 8)
    check_page(page, "job")


def test_a_job_is_cancelled_and_rerun(
    visits: Visits, admin_viewer: Viewer, ui_service: Service, key: dict[str, Any]
) -> None:
    job = submit(ui_service, key, PROMPT * 40)
    page = visits.open(f"/jobs/{job}", viewer=admin_viewer)

    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Cancel the job").click()

    expect(page.get_by_role("status").filter(has_text="The job is cancelled.")).to_be_visible()
    assert wait_for_end(ui_service, key, job)["status"] == "cancelled"
    expect(page.locator("#live[data-final]")).to_contain_text("cancelled")
    page.get_by_role("button", name="Run again").click()
    expect(page.locator("dialog")).to_contain_text("trial")
    page.get_by_role("button", name="Run it again").click()
    expect(page.get_by_role("status").filter(has_text="This is the new job.")).to_be_visible()
    rerun = page.url.rpartition("/")[2]
    assert rerun != job
    assert read_job(ui_service, key, rerun)["keyId"] == key["id"]
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Cancel the job").click()
    wait_for_end(ui_service, key, rerun)


def test_a_webhook_lists_its_attempts_and_is_resent(
    visits: Visits, admin_viewer: Viewer, ui_service: Service, key: dict[str, Any]
) -> None:
    job = submit(ui_service, key, webhookUrl="https://receiver.invalid/hook")
    wait_for_end(ui_service, key, job)
    headers = {"x-api-key": key["secret"]}

    def attempts() -> int:
        found = ui_service.call("GET", f"/api/llm/jobs/{job}/webhooks", headers=headers).json()[
            "data"
        ]
        return sum(len(webhook["attempts"]) for webhook in found)

    wait_until(lambda: attempts() >= 1, 30, ui_service.logs)
    page = visits.open(f"/jobs/{job}", viewer=admin_viewer)
    region = page.get_by_role("region", name="Attempts to deliver the webhook")
    expect(region.locator("tbody tr").first).to_be_visible()  # a retry adds another after 5 s
    expect(page.locator("main")).to_contain_text("job.succeeded to https://receiver.invalid/hook")

    before = attempts()
    page.get_by_role("button", name="Send again").click()

    expect(page.get_by_role("status").filter(has_text="is sent again")).to_be_visible()
    wait_until(lambda: attempts() > before, 30, ui_service.logs)


def test_an_admin_sees_a_customers_completion_but_not_the_request(
    visits: Visits, admin_viewer: Viewer, ui_service: Service, customer_key: dict[str, Any]
) -> None:
    job = submit(ui_service, customer_key, "a secret of hers")
    wait_for_end(ui_service, customer_key, job)

    page = visits.open(f"/jobs/{job}", viewer=admin_viewer)
    expect(page.locator("main")).to_contain_text("Only the owner can see the request.")
    expect(page.get_by_text("a secret of hers")).to_be_hidden()
    page.get_by_text("Show the customer's completion").click()
    expect(page.get_by_label("Completion 1")).to_be_visible()

    own = visits.open(f"/jobs/{job}", viewer=CUSTOMER)
    expect(own.get_by_label("prompt", exact=True)).to_have_text("a secret of hers")
    expect(own.get_by_role("button", name="Run again")).to_be_visible()


def test_a_customer_sees_no_jobs_of_others(
    visits: Visits,
    ui_service: Service,
    key: dict[str, Any],
    customer_key: dict[str, Any],
) -> None:
    admins_job, customers_job = submit(ui_service, key), submit(ui_service, customer_key)
    page = visits.open("/jobs", viewer=CUSTOMER, javascript=False, provoked=["^40[04] "])

    assert customers_job in ids_of(page) and admins_job not in ids_of(page)
    cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
    for path in ("", "/live", "/text", "/cancel", "/again"):
        response = requests.get(
            f"{ui_service.admin_url}/jobs/{admins_job}{path}", cookies=cookies, timeout=20
        )
        assert response.status_code == 404, path
    rows = requests.get(
        f"{ui_service.admin_url}/jobs/rows?ids={admins_job},{customers_job}",
        cookies=cookies,
        timeout=20,
    ).text
    assert customers_job in rows and admins_job not in rows
    assert page.goto(f"/jobs?key={key['id']}") is not None
    assert ids_of(page) == []
