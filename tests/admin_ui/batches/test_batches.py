"""The pages of batches, with a service that takes seconds for each line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import expect

from tests.admin_ui.conftest import PageCheck
from tests.support.browser.visits import Viewer, Visits
from tests.support.polling import wait_until
from tests.support.service import Service

PROMPT = "def add(a, b):\n    return a + b\n\n"
CUSTOMER = Viewer("joe@example.com", "customer password")


@pytest.fixture(scope="module")
def ui_service(slow_service: Service) -> Service:
    """The slow service with an admin UI."""
    slow_service.start_admin_ui()
    return slow_service


@pytest.fixture(scope="module")
def key(ui_service: Service) -> dict[str, Any]:
    """A key of the admin."""
    return ui_service.make_key(name="trial")


def lines(count: int, prompt: str = PROMPT) -> str:
    """Return the content of a batch file."""
    generation = {"prompt": prompt, "promptMode": "raw", "temperature": 0}
    return "".join(
        json.dumps({"custom_id": f"line-{i}", **generation}) + "\n" for i in range(1, count + 1)
    )


def send(ui_service: Service, key: dict[str, Any], content: str, **options: str) -> str:
    """Upload a batch through the API, and return its id."""
    response = ui_service.call(
        "POST",
        "/api/llm/batches",
        params=options,
        data=content.encode(),
        headers={"x-api-key": key["secret"], "Content-Type": "application/jsonl"},
    )
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def read_batch(ui_service: Service, key: dict[str, Any], batch: str) -> dict[str, Any]:
    """Return a batch as the API describes it."""
    return dict(
        ui_service.call(
            "GET", f"/api/llm/batches/{batch}", headers={"x-api-key": key["secret"]}
        ).json()
    )


def wait_for_end(ui_service: Service, key: dict[str, Any], batch: str) -> None:
    """Wait until a batch is final."""

    def is_final() -> bool:
        return read_batch(ui_service, key, batch)["finishedAt"] is not None

    wait_until(is_final, 60, ui_service.logs)


def file_of(directory: Path, content: str) -> Path:
    """Write a batch file, and return its path."""
    path = directory / "requests.jsonl"
    path.write_text(content)
    return path


def test_a_file_is_uploaded_followed_and_downloaded(
    visits: Visits,
    admin_viewer: Viewer,
    key: dict[str, Any],
    check_page: PageCheck,
    tmp_path: Path,
) -> None:
    page = visits.open("/batches/new", viewer=admin_viewer)
    check_page(page, "batch-new")
    page.get_by_label("File", exact=True).set_input_files(file_of(tmp_path, lines(100, PROMPT * 4)))
    page.get_by_label("Name").fill("nightly")

    page.get_by_role("button", name="Send the file").click()

    expect(page.get_by_role("heading", name="nightly")).to_be_visible()
    expect(page.locator("#live")).to_contain_text("of 100 lines have ended")
    wait_until(lambda: 0 < int(page.locator("#live dd").first.inner_text()) < 100, 30)
    check_page(page, "batch-running")
    expect(page.locator("#live[data-final]")).to_contain_text("completed", timeout=30_000)
    expect(page.locator("#live")).to_contain_text("100 of 100 lines have ended, 100%")
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Download results").click()
    results = [json.loads(line) for line in downloading.value.path().read_text().splitlines()]
    assert [result["custom_id"] for result in results] == [f"line-{i}" for i in range(1, 101)]
    assert re.fullmatch(r"batch_\w+-results\.jsonl", downloading.value.suggested_filename)
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(50)
    page.get_by_role("button", name="Later lines").click()
    expect(page.locator("tbody")).not_to_contain_text("line-50")
    expect(page.locator("tbody")).to_contain_text("line-100")
    page.get_by_role("button", name="Earlier lines").click()
    expect(page.locator("tbody")).to_contain_text("line-50")


def test_faulty_lines_are_listed_by_number(
    visits: Visits, admin_viewer: Viewer, key: dict[str, Any], tmp_path: Path
) -> None:
    bad = lines(1) + '{"prompt": "p", "maxTokens": 0}\n' + "no json\n"
    page = visits.open("/batches/new", viewer=admin_viewer, provoked=["^400 POST .*/batches/new"])
    page.get_by_label("File", exact=True).set_input_files(file_of(tmp_path, bad))

    page.get_by_role("button", name="Send the file").click()

    alert = page.get_by_role("alert").filter(has_text="lines are not valid")
    expect(alert).to_contain_text("2 of 3 lines are not valid")
    expect(alert).to_contain_text("Line 2: maxTokens must be at least 1.")
    expect(alert).to_contain_text("Line 3: it is not valid JSON")
    page.get_by_label("File", exact=True).set_input_files(file_of(tmp_path, lines(1)))
    page.get_by_label("Time to begin").fill("soon")
    page.get_by_role("button", name="Send the file").click()
    expect(page.locator("#completionWindow-fault")).to_contain_text("90m, 24h or 7d")


def test_failures_are_listed_and_faulty_lines_are_not_retried(
    visits: Visits,
    admin_viewer: Viewer,
    ui_service: Service,
    key: dict[str, Any],
    check_page: PageCheck,
) -> None:
    batch = send(ui_service, key, lines(2) + '{"prompt": "", "custom_id": "bad"}\n', onError="skip")
    wait_for_end(ui_service, key, batch)
    page = visits.open(f"/batches/{batch}", viewer=admin_viewer)

    expect(page.locator("#live .plain-list")).to_contain_text(
        "Line 3 bad: Prompt must not be empty."
    )
    page.get_by_label("State").select_option("failed")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator("tbody tr")).to_have_count(1)
    check_page(page, "batch")
    # The API skipped the faulty line: no line is left to retry.
    assert page.get_by_role("button", name="Retry").count() == 0


def test_a_batch_is_cancelled_and_its_cancelled_lines_are_retried(
    visits: Visits,
    admin_viewer: Viewer,
    ui_service: Service,
    key: dict[str, Any],
    check_page: PageCheck,
) -> None:
    batch = send(ui_service, key, lines(400, PROMPT * 20), name="too many")
    page = visits.open("/batches", viewer=admin_viewer)
    row = page.locator("tr", has_text="too many")
    expect(row).to_contain_text("of 400")
    check_page(page, "batches")
    row.get_by_role("link").click()

    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Cancel the batch").click()

    notice = page.get_by_role("status").filter(has_text="The batch is being cancelled")
    expect(notice).to_have_class(re.compile("warning"))
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_have_count(0)
    expect(page.locator("#live")).not_to_contain_text(" left")
    expect(page.locator("#live[data-final]")).to_contain_text("cancelled", timeout=20_000)
    page.get_by_role("button", name="Retry lines").click()
    cancelled = read_batch(ui_service, key, batch)["counts"]["cancelled"]
    expect(page.locator("#dialog h1")).to_have_text(f"Retry {cancelled} lines?")
    options = page.get_by_label("Key that pays").locator("option").all_inner_texts()
    assert len(options) == len({option.removesuffix(", as before") for option in options})
    page.get_by_label("Name").fill("the rest")
    page.get_by_role("button", name="Retry", exact=True).click()
    expect(page.get_by_role("heading", name="the rest")).to_be_visible()
    retry = page.url.rpartition("/")[2]
    new_batch = read_batch(ui_service, key, retry)
    assert new_batch["retryOf"] == batch
    assert new_batch["total"] == read_batch(ui_service, key, batch)["counts"]["cancelled"]
    ui_service.call(
        "POST", f"/api/llm/batches/{retry}/cancel", headers={"x-api-key": key["secret"]}
    )
    wait_for_end(ui_service, key, retry)


def test_no_line_of_an_ended_batch_appears_as_running(
    visits: Visits, admin_viewer: Viewer, ui_service: Service, key: dict[str, Any]
) -> None:
    batch = send(ui_service, key, lines(6), name="short")
    page = visits.open(f"/batches/{batch}", viewer=admin_viewer)

    expect(page.locator("#live[data-final]")).to_contain_text("completed", timeout=30_000)

    # The last progress response makes the page request the lines: that takes one request.
    expect(page.locator("tbody")).not_to_contain_text("running", timeout=1_000)
    expect(page.locator("tbody tr", has_text="succeeded")).to_have_count(6, timeout=1_000)


def test_a_customer_sees_no_batches_of_others(
    visits: Visits, ui_service: Service, key: dict[str, Any]
) -> None:
    body = {"email": CUSTOMER.email, "password": CUSTOMER.password}
    assert ui_service.call("POST", "/api/auth/register", json=body).status_code == 201
    batch = send(ui_service, key, lines(1))

    page = visits.open("/batches", viewer=CUSTOMER, javascript=False)

    expect(page.locator(".empty")).to_contain_text("There are no batches yet.")
    cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
    for path in ("", "/live", "/lines", "/results", "/cancel", "/retry"):
        response = requests.get(
            f"{ui_service.admin_url}/batches/{batch}{path}", cookies=cookies, timeout=20
        )
        assert response.status_code == 404, path
    rows = requests.get(
        f"{ui_service.admin_url}/batches/rows?ids={batch}", cookies=cookies, timeout=20
    )
    assert rows.ok and batch not in rows.text.partition("<tr>")[2]
