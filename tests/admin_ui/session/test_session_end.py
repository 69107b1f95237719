"""The end of a session: no text that was entered on a page is lost."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from playwright.sync_api import Page, expect

from tests.support.browser.pages import sign_in
from tests.support.browser.visits import Viewer, Visits
from tests.support.browser.visits import sign_in as sign_in_by_form
from tests.support.service import Service

PROMPT = "Write a function without a name"
#: Messages of the browser and of htmx about a background request without a session.
REFUSED = ["^401 (GET|POST) ", "^console: Response Status Error Code 401 "]


def renew_session(page: Page, viewer: Viewer) -> None:
    """Sign in on the page that reports the end of the session."""
    expect(page.get_by_role("status")).to_contain_text("Your session has ended.")
    page.get_by_label("Email").fill(viewer.email)
    page.get_by_label("Password").fill(viewer.password)
    page.get_by_role("button", name="Sign in").click()


def test_the_prompt_survives_the_end_of_the_session(
    visits: Visits, ui_service: Service, admin_viewer: Viewer
) -> None:
    ui_service.make_key(name="trial")
    page = visits.open("/playground", viewer=admin_viewer, provoked=REFUSED)
    page.context.clear_cookies()

    page.get_by_label("Prompt").fill(PROMPT)

    trouble = page.locator("#trouble")
    expect(trouble).to_contain_text("Your session has ended.")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#refused")).to_contain_text("Your text is saved.")
    expect(page.get_by_label("Prompt")).to_have_value(PROMPT)
    trouble.get_by_role("link", name="Sign in again").click()
    renew_session(page, admin_viewer)
    expect(page.get_by_label("Prompt")).to_have_value(PROMPT)
    expect(page.locator("#code-curl")).to_contain_text(PROMPT)


def test_signing_out_deletes_the_saved_prompt(
    visits: Visits, ui_service: Service, admin_viewer: Viewer
) -> None:
    ui_service.make_key(name="trial")
    page = visits.open("/sign-in")
    sign_in_by_form(page, admin_viewer)  # its own session: other tests share that of `viewer`
    page.goto("/playground")
    page.get_by_label("Prompt").fill(PROMPT)
    assert page.evaluate("() => sessionStorage.getItem('playground')") is not None

    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")

    assert page.evaluate("() => sessionStorage.getItem('playground')") is None


def test_the_figures_stay_when_the_session_ends(visits: Visits, admin_viewer: Viewer) -> None:
    page = visits.open("/", viewer=admin_viewer, provoked=REFUSED)
    page.context.clear_cookies()

    expect(page.locator("#trouble")).to_contain_text("Your session has ended.")

    expect(page.locator("#live")).to_contain_text("Tokens today")


def test_a_renewed_session_returns_to_the_page(visits: Visits, admin_viewer: Viewer) -> None:
    page = visits.open("/customers?q=admin&sort=email", viewer=admin_viewer)
    page.context.clear_cookies()

    page.get_by_role("button", name="Add Customer").click()

    renew_session(page, admin_viewer)
    expect(page).to_have_url(f"{visits.service.admin_url}/customers?q=admin&sort=email")
    expect(page.get_by_label("Search")).to_have_value("admin")


@pytest.mark.parametrize(
    ("page", "back"),
    [
        ("http://localhost/settings?tab=1", "/sign-in?next=/settings?tab%3D1&ended=1"),
        # The URL of a form response accepts only POST.
        ("http://localhost/settings/password", "/sign-in?ended=1"),
        ("https://evil.example/settings", "/sign-in?ended=1"),
        ("", "/sign-in?ended=1"),
    ],
)
def test_a_form_without_a_session_leads_back_to_its_page(
    pages_client: FlaskClient, page: str, back: str
) -> None:
    response = pages_client.post("/settings", data={"name": "A"}, headers={"Referer": page})

    assert (response.status_code, response.location) == (303, back)


def test_a_chart_without_a_session_is_refused_and_not_redirected(pages_client: FlaskClient) -> None:
    response = pages_client.get("/series/tokens", headers={"Accept": "application/json"})

    assert (response.status_code, response.location) == (401, None)


def test_a_first_visit_has_no_ended_session(pages_client: FlaskClient) -> None:
    assert pages_client.get("/settings").location == "/sign-in?next=/settings"
    assert sign_in(pages_client).status_code == 303
    assert pages_client.get("/settings").status_code == 200
