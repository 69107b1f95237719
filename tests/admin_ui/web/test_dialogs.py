"""The dialog: its focus, when it closes, and the busy indicator."""

from __future__ import annotations

import pytest
from playwright.sync_api import Route, expect

from tests.support.browser.visits import Viewer, Visits
from tests.support.service import Service


@pytest.mark.parametrize(
    ("address", "opener", "cancel_button"),
    [
        ("/customers", "Delete", "Cancel"),
        ("/keys", "Revoke", "Cancel"),
    ],
)
def test_enter_destroys_nothing_in_a_dialog_that_just_opened(
    visits: Visits,
    ui_service: Service,
    admin_viewer: Viewer,
    address: str,
    opener: str,
    cancel_button: str,
) -> None:
    ui_service.make_key(name="listed")
    page = visits.open(address, viewer=admin_viewer)
    page.get_by_role("link", name=opener).first.press("Enter")
    expect(page.get_by_role("button", name=cancel_button, exact=True)).to_be_focused()

    page.keyboard.press("Enter")

    expect(page.locator("dialog[open]")).to_have_count(0)
    expect(page.get_by_role("link", name=opener).first).to_be_visible()


def test_a_rejected_form_focuses_the_field_at_fault(visits: Visits, admin_viewer: Viewer) -> None:
    page = visits.open("/customers", viewer=admin_viewer, provoked=["^409 POST .*/customers/new"])
    page.get_by_role("button", name="Add Customer").click()
    expect(page.get_by_label("Name")).to_be_focused()
    page.get_by_label("Email").fill(admin_viewer.email)
    page.get_by_label("Password").fill("a password")

    page.keyboard.press("Enter")

    expect(page.locator("#email-fault")).to_be_visible()
    expect(page.get_by_label("Email")).to_be_focused()


def test_a_click_beside_a_form_with_text_closes_nothing(
    visits: Visits, admin_viewer: Viewer
) -> None:
    page = visits.open("/keys", viewer=admin_viewer)
    page.get_by_role("button", name="Create API Key").click()
    page.get_by_label("Name").press_sequentially("half")
    # Each letter requests suggestions in the same form: they must not count as sending it.
    page.get_by_label("Owner").fill("")
    page.get_by_label("Owner").press_sequentially("admin@")
    expect(page.locator("#owners option")).to_have_count(1)

    page.mouse.click(5, 5)

    expect(page.get_by_label("Name")).to_have_value("half")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Create API Key").click()
    expect(page.get_by_label("Name")).to_be_focused()
    page.mouse.click(5, 5)
    expect(page.locator("dialog[open]")).to_have_count(0)


def test_a_busy_indicator_appears_during_a_slow_response(
    visits: Visits, admin_viewer: Viewer
) -> None:
    page = visits.open("/customers", viewer=admin_viewer)
    held: list[Route] = []
    page.route("**/customers/new", lambda route: held.append(route))
    button = page.get_by_role("button", name="Add Customer", exact=True)
    bar = page.locator("#busy")

    button.click()

    expect(bar).to_be_visible()
    expect(button).to_have_attribute("aria-busy", "true")
    page.emulate_media(reduced_motion="reduce")
    assert bar.evaluate("bar => getComputedStyle(bar, '::after').animationName") == "none"
    held[0].continue_()
    expect(page.locator("dialog[open]")).to_be_visible()
    expect(bar).to_be_hidden()
    assert button.get_attribute("aria-busy") is None


def test_a_wrong_password_leaves_the_focus_on_the_password(
    visits: Visits, admin_viewer: Viewer
) -> None:
    page = visits.open("/sign-in", provoked=["^401 POST .*/sign-in"])
    expect(page.get_by_label("Email")).to_be_focused()
    page.get_by_label("Email").fill(admin_viewer.email)
    page.get_by_label("Password").fill("wrong")

    page.keyboard.press("Enter")

    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Password")).to_be_focused()
