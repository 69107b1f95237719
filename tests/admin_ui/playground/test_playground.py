"""The playground, with a service that takes seconds for a completion."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.admin_ui.conftest import PageCheck
from tests.support.browser.visits import Viewer, Visits
from tests.support.minute import wait_for_room
from tests.support.polling import wait_until
from tests.support.service import Service

NewestJob = Callable[[], dict[str, Any]]
#: About 80 tokens: three seconds at the speed of the slow service.
PROMPT = "def add(a, b):\n    return a + b\n\n" * 6


@pytest.fixture(scope="module")
def ui_service(slow_service: Service) -> Service:
    """The slow service with an admin UI and two keys; `once` may send one request a minute."""
    slow_service.start_admin_ui()
    for name in ("trial", "once"):
        slow_service.make_key(name=name, rateLimit=1 if name == "once" else 100_000)
    return slow_service


def open_playground(visits: Visits, viewer: Viewer, key: str = "trial", **options: Any) -> Page:
    """Open the playground, and fill its form in."""
    page = visits.open("/playground", viewer=viewer, **options)
    page.get_by_label("API key").select_option(key)
    page.get_by_label("Mode").select_option("raw")
    page.get_by_label("Prompt").fill(PROMPT)
    return page


@pytest.fixture(scope="module")
def newest_job(ui_service: Service) -> NewestJob:
    """Reads the newest job of the service."""
    headers = ui_service.sign_in_admin()

    def read() -> dict[str, Any]:
        response = ui_service.call("GET", "/api/llm/jobs?limit=1", headers=headers)
        return dict(response.json()["data"][0])

    return read


def test_text_is_streamed_and_the_figures_are_right(
    visits: Visits, admin_viewer: Viewer, newest_job: NewestJob, check_page: PageCheck
) -> None:
    page = open_playground(visits, admin_viewer)
    completion = page.locator("#completion")

    page.get_by_role("button", name="Generate").click()

    seen: list[str] = []
    status = page.locator("#progress")
    deadline = time.monotonic() + 20
    while status.inner_text() != "Done" and time.monotonic() < deadline:
        text = completion.text_content() or ""
        if text and (not seen or text != seen[-1]):
            seen.append(text)
        page.wait_for_timeout(50)  # a sample of the text 20 times a second
    assert len(seen) > 5
    assert all(later.startswith(earlier) for earlier, later in pairwise(seen))
    assert completion.text_content() == PROMPT
    job = newest_job()
    outcome = page.locator("#outcome")
    expect(outcome).to_contain_text(f"{job['usage']['total_tokens']} tokens billed")
    expect(outcome).to_contain_text(job["id"])
    rate = float(outcome.locator("dd").first.inner_text())
    first, end = (datetime.fromisoformat(job[at]) for at in ("firstTokenAt", "finishedAt"))
    tokens = job["usage"]["completion_tokens"] - 1  # those after the first
    assert rate == pytest.approx(tokens / (end - first).total_seconds(), abs=0.1)
    assert "eyJ" not in page.content(), "a token of the API in the page"
    check_page(page, "playground")


@pytest.mark.alone
@pytest.mark.parametrize("action", ["stop", "leave"])
def test_leaving_cancels_the_job_at_once(
    visits: Visits, admin_viewer: Viewer, newest_job: NewestJob, action: str
) -> None:
    page = open_playground(visits, admin_viewer)
    page.get_by_label("Prompt").fill(PROMPT * 5)
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#completion")).to_contain_text("return a + b")

    left = time.monotonic()
    if action == "stop":
        page.get_by_role("button", name="Stop").click()
    else:
        page.goto("/settings")
    wait_until(lambda: newest_job()["status"] == "cancelled", 10)

    assert time.monotonic() - left < 2
    job = newest_job()
    assert 0 < job["usage"]["completion_tokens"] < 400
    if action == "stop":
        expect(page.locator("#progress")).to_have_text("Stopped")
        outcome = page.locator("#outcome")
        expect(outcome).to_contain_text(f"{job['usage']['total_tokens']} tokens billed")
        expect(outcome.locator(".state")).to_have_text(["cancelled"])
        expect(page.get_by_role("button", name="Generate")).to_be_enabled()


def test_faults_appear_beside_their_fields(visits: Visits, admin_viewer: Viewer) -> None:
    page = open_playground(visits, admin_viewer, provoked=["^400 POST .*/playground/stream"])
    page.locator("summary", has_text="Parameters").click()
    page.get_by_label("Max tokens").fill("many")
    page.get_by_label("Temperature").fill("9")

    page.get_by_role("button", name="Generate").click()

    expect(page.locator("#temperature-fault")).to_have_text("Temperature must be at most 2.")
    expect(page.locator("#maxTokens-fault")).to_have_text("Max tokens must be a whole number.")
    expect(page.get_by_label("Max tokens")).to_be_focused()
    page.get_by_label("Max tokens").fill("5")
    page.get_by_label("Temperature").fill("0")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#outcome")).to_contain_text("the limit of Max tokens")
    expect(page.locator(".fault")).to_have_count(0)


def test_a_rate_limit_says_when_to_retry(visits: Visits, admin_viewer: Viewer) -> None:
    page = open_playground(
        visits, admin_viewer, "once", provoked=["^429 POST .*/playground/stream"]
    )
    page.get_by_label("Prompt").fill("one")
    button = page.get_by_role("button", name="Generate")
    wait_for_room(20)
    button.click()
    expect(page.locator("#outcome")).to_contain_text("billed")

    button.click()

    expect(page.locator("#refused")).to_contain_text("Try again in")
    expect(button).to_be_disabled()


def test_the_code_follows_the_form(visits: Visits, admin_viewer: Viewer) -> None:
    page = open_playground(visits, admin_viewer)

    page.get_by_label("Prompt").fill('it\'s "quoted"')

    expect(page.locator("#code-curl")).to_contain_text("quoted")
    page.get_by_text("JavaScript", exact=True).click()
    expect(page.locator("#code-javascript")).to_contain_text('"it\'s \\"quoted\\""')


def test_without_javascript_the_form_returns_the_completion(
    visits: Visits, admin_viewer: Viewer
) -> None:
    page = open_playground(
        visits, admin_viewer, javascript=False, provoked=["^400 POST .*/playground$"]
    )
    page.get_by_label("Prompt").fill("print(1)")

    page.get_by_role("button", name="Generate").click()

    expect(page.locator("#completion")).to_have_text("print(1)")
    expect(page.locator("#outcome")).to_contain_text("tokens billed")
    expect(page.get_by_label("Prompt")).to_have_value("print(1)")
    page.locator("summary", has_text="Parameters").click()
    page.get_by_label("Temperature").fill("9")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#temperature-fault")).to_have_text("Temperature must be at most 2.")
