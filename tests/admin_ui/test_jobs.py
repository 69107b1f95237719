"""Jobs as their owners and admins see them, with a service whose answers take their time."""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests
from playwright.sync_api import Page, expect

from tests.admin_ui.conftest import Look
from tests.admin_ui.visits import Visitor, Visits
from tests.service import Service, wait_until

PROMPT = "def add(a, b):\n    return a + b\n\n"
CUSTOMER = Visitor("jane@example.com", "customer password")


@pytest.fixture(scope="module")
def site(paced: Service) -> Service:
    paced.start_admin_ui()
    return paced


@pytest.fixture(scope="module")
def key(site: Service) -> dict[str, Any]:
    return site.make_key(name="trial")


@pytest.fixture(scope="module")
def customer_key(site: Service) -> dict[str, Any]:
    """A customer's key."""
    body = {"email": CUSTOMER.email, "password": CUSTOMER.password, "name": "Jane"}
    assert site.call("POST", "/api/auth/register", json=body).status_code == 201
    headers = site.sign_in(CUSTOMER.email, CUSTOMER.password)
    made = site.call("POST", "/api/keys", json={"name": "janes"}, headers=headers)
    assert made.status_code == 201, made.text
    return dict(made.json())


def submit(site: Service, key: dict[str, Any], prompt: str = "hello", **more: Any) -> str:
    body = {"prompt": prompt, "promptMode": "raw", "temperature": 0, **more}
    answer = site.call("POST", "/api/llm/jobs", json=body, headers={"x-api-key": key["secret"]})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def show(site: Service, key: dict[str, Any], job: str) -> dict[str, Any]:
    return dict(
        site.call("GET", f"/api/llm/jobs/{job}", headers={"x-api-key": key["secret"]}).json()
    )


def wait_for_end(site: Service, key: dict[str, Any], job: str) -> dict[str, Any]:
    wait_until(lambda: show(site, key, job)["status"] not in {"queued", "running"}, 30, site.logs)
    return show(site, key, job)


def ids_of(page: Page) -> list[str]:
    page.wait_for_load_state()  # a click ends when the next page begins
    return [link.get_attribute("id") or "" for link in page.locator("tbody a").all()]


def test_rows_change_where_they_stand_and_new_jobs_are_announced(
    visits: Visits, the_admin: Visitor, site: Service, key: dict[str, Any], look: Look
) -> None:
    page = visits.open("/settings", visitor=the_admin)  # signing in takes its time
    done = submit(site, key)
    wait_for_end(site, key, done)
    slow = submit(site, key, PROMPT * 8)
    page.goto("/jobs")
    assert ids_of(page)[:2] == [slow, done]
    row = page.locator("tr", has=page.locator(f"#{slow}"))
    assert row.locator("td").nth(-2).inner_text() == "–"  # what it took is not known yet
    expect(row.locator(".state")).to_have_text(re.compile("queued|running"))
    row.get_by_role("link").focus()

    newer = submit(site, key)

    expect(page.locator("#now")).to_contain_text("1 new: show")
    expect(row.locator(".state")).to_have_text("succeeded")
    assert ids_of(page)[:2] == [slow, done]
    expect(row.get_by_role("link")).to_be_focused()
    page.get_by_role("link", name="1 new: show").click()
    assert ids_of(page)[0] == newer
    look(page, "jobs")


def test_lines_of_batches_are_listed_with_the_other_jobs(
    visits: Visits, the_admin: Visitor, site: Service, key: dict[str, Any]
) -> None:
    alone = submit(site, key)
    body = '{"prompt": "", "custom_id": "bad"}\n{"prompt": "good"}\n'
    headers = {"x-api-key": key["secret"], "Content-Type": "application/jsonl"}
    sent = site.call("POST", "/api/llm/batches?onError=skip", data=body, headers=headers)
    assert sent.status_code == 201, sent.text
    page = visits.open("/jobs", visitor=the_admin)

    def listed(source: str, state: str = "any") -> list[str]:
        page.get_by_label("Source").select_option(source)
        page.get_by_label("State").select_option(state)
        page.get_by_role("button", name="Filter").click()
        return ids_of(page)

    both, api, lines = (listed(source) for source in ("All", "API", "Batch"))
    assert alone in api and alone in both and alone not in lines
    assert len(lines) == 2 and set(lines) < set(both)
    assert len(listed("All", "failed")) == 1


def test_an_owner_is_shown_by_email(
    visits: Visits, the_admin: Visitor, site: Service, customer_key: dict[str, Any]
) -> None:
    owner = customer_key["userId"]
    fields = {"/jobs?user": "Owner", "/batches?user": "Owner", "/activity?actor": "Who"}
    for path, field in fields.items():
        page = visits.open(f"{path}={owner}", visitor=the_admin)
        assert page.get_by_label(field).input_value() == CUSTOMER.email


def test_filters_narrow_the_list(
    visits: Visits,
    the_admin: Visitor,
    site: Service,
    key: dict[str, Any],
    customer_key: dict[str, Any],
) -> None:
    ours, hers = submit(site, key), submit(site, customer_key)
    page = visits.open("/jobs", visitor=the_admin, provoked=["^400 GET "])

    page.get_by_label("Owner").fill(CUSTOMER.email)
    page.get_by_role("button", name="Filter").click()
    assert hers in ids_of(page) and ours not in ids_of(page)
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("API key").fill(key["id"])
    page.get_by_role("button", name="Filter").click()
    assert ours in ids_of(page) and hers not in ids_of(page)
    page.get_by_label("State").select_option("expired")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(".empty")).to_contain_text("No job is like this.")
    page.get_by_label("API key").fill("nonsense")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#key-fault")).to_be_visible()
    page.locator("#job").fill(hers)
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("h1")).to_contain_text(hers)


def test_a_jobs_page_lives_until_its_end(
    visits: Visits, the_admin: Visitor, site: Service, key: dict[str, Any], look: Look
) -> None:
    job = submit(site, key, PROMPT * 8, metadata={"ticket": "BC-7"})
    page = visits.open(f"/jobs/{job}", visitor=the_admin)
    text = page.locator("#text pre")
    expect(text).to_contain_text("return a + b")
    assert len(text.text_content() or "") < len(PROMPT * 8)

    expect(page.locator("#live[data-final]")).to_be_visible()

    ended = show(site, key, job)
    expect(page.locator("#text")).to_have_count(0)
    expect(page.get_by_label("Answer 1")).to_have_text(PROMPT * 8)
    figures = page.locator("#live .figures")
    expect(figures).to_contain_text(f"Tokens billed{ended['usage']['total_tokens']}")
    expect(page.locator(".facts").first).to_contain_text("BC-7")
    expect(page.get_by_label("prompt", exact=True)).to_have_text(PROMPT * 8)
    look(page, "job")


def test_a_job_is_cancelled_and_run_again(
    visits: Visits, the_admin: Visitor, site: Service, key: dict[str, Any]
) -> None:
    job = submit(site, key, PROMPT * 40)
    page = visits.open(f"/jobs/{job}", visitor=the_admin)

    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Cancel the job").click()

    expect(page.get_by_role("status").filter(has_text="The job is cancelled.")).to_be_visible()
    assert wait_for_end(site, key, job)["status"] == "cancelled"
    expect(page.locator("#live[data-final]")).to_contain_text("cancelled")
    page.get_by_role("button", name="Run again").click()
    expect(page.locator("dialog")).to_contain_text("trial")
    page.get_by_role("button", name="Run it again").click()
    expect(page.get_by_role("status").filter(has_text="This is the new job.")).to_be_visible()
    again = page.url.rpartition("/")[2]
    assert again != job
    assert show(site, key, again)["keyId"] == key["id"]
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Cancel the job").click()
    wait_for_end(site, key, again)


def test_a_webhook_shows_its_attempts_and_is_sent_again(
    visits: Visits, the_admin: Visitor, site: Service, key: dict[str, Any]
) -> None:
    job = submit(site, key, webhookUrl="https://receiver.invalid/hook")
    wait_for_end(site, key, job)
    headers = {"x-api-key": key["secret"]}

    def attempts() -> int:
        told = site.call("GET", f"/api/llm/jobs/{job}/webhooks", headers=headers).json()["data"]
        return sum(len(webhook["attempts"]) for webhook in told)

    wait_until(lambda: attempts() >= 1, 30, site.logs)
    page = visits.open(f"/jobs/{job}", visitor=the_admin)
    region = page.get_by_role("region", name="Attempts to deliver the webhook")
    expect(region.locator("tbody tr").first).to_be_visible()  # after 5 s there is another
    expect(page.locator("main")).to_contain_text("job.succeeded to https://receiver.invalid/hook")

    before = attempts()
    page.get_by_role("button", name="Send again").click()

    expect(page.get_by_role("status").filter(has_text="is sent again")).to_be_visible()
    wait_until(lambda: attempts() > before, 30, site.logs)


def test_an_admin_sees_a_customers_answer_but_not_the_request(
    visits: Visits, the_admin: Visitor, site: Service, customer_key: dict[str, Any]
) -> None:
    job = submit(site, customer_key, "a secret of hers")
    wait_for_end(site, customer_key, job)

    page = visits.open(f"/jobs/{job}", visitor=the_admin)
    expect(page.locator("main")).to_contain_text("shown to its owner alone")
    expect(page.get_by_text("a secret of hers")).to_be_hidden()
    page.get_by_text("Show the customer's answer").click()
    expect(page.get_by_label("Answer 1")).to_be_visible()

    own = visits.open(f"/jobs/{job}", visitor=CUSTOMER)
    expect(own.get_by_label("prompt", exact=True)).to_have_text("a secret of hers")
    expect(own.get_by_role("button", name="Run again")).to_be_visible()


def test_a_customer_sees_no_jobs_of_others(
    visits: Visits,
    site: Service,
    key: dict[str, Any],
    customer_key: dict[str, Any],
) -> None:
    ours, hers = submit(site, key), submit(site, customer_key)
    page = visits.open("/jobs", visitor=CUSTOMER, javascript=False, provoked=["^40[04] "])

    assert hers in ids_of(page) and ours not in ids_of(page)
    cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
    for path in ("", "/live", "/text", "/cancel", "/again"):
        answer = requests.get(f"{site.admin_url}/jobs/{ours}{path}", cookies=cookies, timeout=20)
        assert answer.status_code == 404, path
    rows = requests.get(
        f"{site.admin_url}/jobs/rows?ids={ours},{hers}", cookies=cookies, timeout=20
    ).text
    assert hers in rows and ours not in rows
    assert page.goto(f"/jobs?key={key['id']}") is not None
    assert ids_of(page) == []
