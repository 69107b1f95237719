"""The playground with answers that take their time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.admin_ui.conftest import Look
from tests.admin_ui.visits import Visitor, Visits
from tests.minute import wait_for_room
from tests.service import Service, wait_until

NewestJob = Callable[[], dict[str, Any]]
#: About 80 tokens: three seconds at the pace of the service.
PROMPT = "def add(a, b):\n    return a + b\n\n" * 6


@pytest.fixture(scope="module")
def site(paced: Service) -> Service:
    paced.start_admin_ui()
    for name in ("trial", "once"):
        paced.make_key(name=name, rateLimit=1 if name == "once" else 100_000)
    return paced


def open_playground(visits: Visits, visitor: Visitor, key: str = "trial", **options: Any) -> Page:
    page = visits.open("/playground", visitor=visitor, **options)
    page.get_by_label("API key").select_option(key)
    page.get_by_label("The model takes it as").select_option("raw")
    page.get_by_label("Prompt").fill(PROMPT)
    return page


@pytest.fixture(scope="module")
def newest_job(site: Service) -> NewestJob:
    headers = site.sign_in_admin()
    return lambda: site.call("GET", "/api/llm/jobs?limit=1", headers=headers).json()["data"][0]


def test_text_comes_piece_by_piece_and_the_figures_are_true(
    visits: Visits, the_admin: Visitor, newest_job: NewestJob, look: Look
) -> None:
    page = open_playground(visits, the_admin)
    answer = page.locator("#answer")

    page.get_by_role("button", name="Generate").click()

    seen: list[str] = []
    status = page.locator("#progress")
    deadline = time.monotonic() + 20
    while status.inner_text() != "Done" and time.monotonic() < deadline:
        text = answer.text_content() or ""
        if text and (not seen or text != seen[-1]):
            seen.append(text)
        page.wait_for_timeout(50)
    assert len(seen) > 5
    assert all(later.startswith(earlier) for earlier, later in pairwise(seen))
    assert answer.text_content() == PROMPT
    job = newest_job()
    outcome = page.locator("#outcome")
    expect(outcome).to_contain_text(f"{job['usage']['total_tokens']} tokens billed")
    expect(outcome).to_contain_text(job["id"])
    rate = float(outcome.locator("dd").first.inner_text())
    first, end = (datetime.fromisoformat(job[at]) for at in ("firstTokenAt", "finishedAt"))
    tokens = job["usage"]["completion_tokens"] - 1  # those after the first
    assert rate == pytest.approx(tokens / (end - first).total_seconds(), abs=0.1)
    assert "eyJ" not in page.content(), "a token of the API in the page"
    look(page, "playground")


@pytest.mark.parametrize("way", ["stop", "leave"])
def test_who_goes_away_cancels_the_job_at_once(
    visits: Visits, the_admin: Visitor, newest_job: NewestJob, way: str
) -> None:
    page = open_playground(visits, the_admin)
    page.get_by_label("Prompt").fill(PROMPT * 5)
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#answer")).to_contain_text("return a + b")

    left = time.monotonic()
    if way == "stop":
        page.get_by_role("button", name="Stop").click()
    else:
        page.goto("/settings")
    wait_until(lambda: newest_job()["status"] == "cancelled", 10)

    assert time.monotonic() - left < 2
    job = newest_job()
    assert 0 < job["usage"]["completion_tokens"] < 400
    if way == "stop":
        expect(page.locator("#progress")).to_have_text("Stopped")
        outcome = page.locator("#outcome")
        expect(outcome).to_contain_text(f"{job['usage']['total_tokens']} tokens billed")
        expect(outcome.locator(".state")).to_have_text(["cancelled"])
        expect(page.get_by_role("button", name="Generate")).to_be_enabled()


def test_faults_stand_beside_their_fields(visits: Visits, the_admin: Visitor) -> None:
    page = open_playground(visits, the_admin, provoked=["^400 POST .*/playground/stream"])
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


def test_a_limit_says_when_to_come_back(visits: Visits, the_admin: Visitor) -> None:
    page = open_playground(visits, the_admin, "once", provoked=["^429 POST .*/playground/stream"])
    page.get_by_label("Prompt").fill("one")
    button = page.get_by_role("button", name="Generate")
    wait_for_room(20)
    button.click()
    expect(page.locator("#outcome")).to_contain_text("billed")

    button.click()

    expect(page.locator("#refused")).to_contain_text("Try again in")
    expect(button).to_be_disabled()


def test_the_code_follows_the_form(visits: Visits, the_admin: Visitor) -> None:
    page = open_playground(visits, the_admin)

    page.get_by_label("Prompt").fill('it\'s "quoted"')

    expect(page.locator("#code-curl")).to_contain_text("quoted")
    page.get_by_text("JavaScript", exact=True).click()
    expect(page.locator("#code-javascript")).to_contain_text('"it\'s \\"quoted\\""')


def test_without_javascript_the_form_brings_the_answer(visits: Visits, the_admin: Visitor) -> None:
    page = open_playground(
        visits, the_admin, javascript=False, provoked=["^400 POST .*/playground$"]
    )
    page.get_by_label("Prompt").fill("print(1)")

    page.get_by_role("button", name="Generate").click()

    expect(page.locator("#answer")).to_have_text("print(1)")
    expect(page.locator("#outcome")).to_contain_text("tokens billed")
    expect(page.get_by_label("Prompt")).to_have_value("print(1)")
    page.locator("summary", has_text="Parameters").click()
    page.get_by_label("Temperature").fill("9")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#temperature-fault")).to_have_text("Temperature must be at most 2.")
