"""The quick start: its programs run unchanged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import expect

from tests.admin_ui.conftest import PageCheck
from tests.clients.node import run_node
from tests.support.browser.visits import Viewer, Visits
from tests.support.service import Service

RUN_SECONDS = 60


def run(program: list[str], **environment: str) -> str:
    """Run a program, and return its output."""
    done = subprocess.run(
        program,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=True,
    )
    return done.stdout


def test_every_program_runs_unchanged(
    visits: Visits, ui_service: Service, customer: Viewer, check_page: PageCheck, tmp_path: Path
) -> None:
    page = visits.open("/quick-start", viewer=customer)
    expect(page.get_by_text("You have no API key yet.")).to_be_visible()
    check_page(page, "quick-start-without-key")
    page.get_by_role("button", name="Create API key").click()
    page.get_by_label("Name").fill("first")
    page.get_by_role("dialog").get_by_role("button", name="Create API key", exact=True).click()
    secret = page.locator("#secret").inner_text()
    page.goto("/quick-start")
    check_page(page, "quick-start")

    def code(name: str) -> str:
        page.locator(f"label[for$=-{name}]").click()
        return page.locator(f"#code-{name}").inner_text()

    response = run(["bash", "-c", code("curl")], BOUNTYCODER_API_KEY=secret)
    assert json.loads(response)["choices"][0]["text"]
    login = page.locator("#login").inner_text().replace("your_password", customer.password)
    token = json.loads(run(["bash", "-c", login]))["token"]
    response = run(["bash", "-c", code("curl_jwt").replace("your_jwt_token", token)])
    assert json.loads(response)["usage"]["completion_tokens"]
    for name in ("python", "openai_python", "python_jwt"):
        (tmp_path / f"{name}.py").write_text(code(name).replace("your_jwt_token", token))
        program = [sys.executable, str(tmp_path / f"{name}.py")]
        assert "Fibonacci" in run(program, BOUNTYCODER_API_KEY=secret), name
    for name, suffix in (
        ("javascript", "mjs"),
        ("openai_javascript", "cjs"),
        ("javascript_jwt", "cjs"),
    ):
        program_file = tmp_path / f"{name}.{suffix}"
        program_file.write_text(code(name).replace("your_jwt_token", token))
        assert "Fibonacci" in run_node(program_file, BOUNTYCODER_API_KEY=secret), name


def test_the_tabs_need_no_script(visits: Visits, customer: Viewer) -> None:
    page = visits.open("/quick-start", viewer=customer, javascript=False)
    expect(page.locator("#code-curl")).to_be_visible()
    expect(page.locator("#code-python")).to_be_hidden()

    page.locator("label[for=secret-python]").click()

    expect(page.locator("#code-python")).to_be_visible()
    expect(page.locator("#code-curl")).to_be_hidden()
