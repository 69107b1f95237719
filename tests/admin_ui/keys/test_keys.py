"""The pages of API keys, with the real service."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.admin_ui.conftest import PageCheck
from tests.support.browser.visits import Viewer, Visits
from tests.support.service import Service

SECRET = re.compile(r"^bc_[0-9a-z]{12}_[\w-]{43}$")


def secret_of(page: Page) -> str:
    """Return the secret that the dialog of a new key displays."""
    secret = page.locator("#secret")
    expect(secret).to_have_text(SECRET)
    return secret.inner_text()


def generate(service: Service, secret: str) -> int:
    """Send a generate request, and return the status of its response."""
    body = {"prompt": "hello", "maxTokens": 5}
    headers = {"Authorization": f"Bearer {secret}"}
    return service.call("POST", "/api/llm/generate", json=body, headers=headers).status_code


@pytest.mark.parametrize("javascript", [True, False], ids=["with", "without"])
def test_a_key_is_created_changed_rotated_and_revoked(
    visits: Visits, ui_service: Service, customer: Viewer, javascript: bool
) -> None:
    page = visits.open(
        "/keys", viewer=customer, javascript=javascript, provoked=["^403 POST .*/keys/new"]
    )
    page.get_by_role("button", name="Create API Key").click()
    page.get_by_label("Name").fill("laptop")
    page.get_by_label("Requests per minute").fill("61")
    page.get_by_role("button", name="Create API key", exact=True).click()
    expect(page.locator("#rateLimit-fault")).to_have_text(
        "Requests per minute must be at most 60: only an admin may set more."
    )
    expect(page.get_by_label("Priority")).to_have_count(0)
    page.get_by_label("Requests per minute").fill("50")
    page.get_by_text("More limits and expiry").click()
    page.get_by_label("Jobs in flight").fill("3")
    page.get_by_role("button", name="Create API key", exact=True).click()
    first = secret_of(page)
    expect(page.locator("#call")).to_contain_text(f"{ui_service.url}/api/llm/generate")
    expect(page.locator("#call")).to_contain_text(f"Bearer {first}")
    assert generate(ui_service, first) == 200

    page.get_by_role("button", name="I've saved the secret").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("laptop")
    limits = page.get_by_role("region", name="Limits")
    expect(limits.get_by_role("row", name="Requests per minute")).to_contain_text("of 50")
    expect(limits.get_by_role("row", name="Jobs in flight")).to_contain_text("0 of 3")
    assert first not in page.content()

    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_label("Name").fill("desk")
    page.get_by_label("Active").uncheck()
    page.get_by_role("button", name="Save").click()
    expect(page.locator("h1 .state")).to_have_text("inactive")
    assert generate(ui_service, first) == 403
    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_label("Active").check()
    page.get_by_role("button", name="Save").click()
    expect(page.locator("h1 .state")).to_have_text("active")

    page.get_by_role("button", name="Rotate", exact=True).click()
    page.get_by_label("The present secret").select_option("3600")
    page.get_by_role("button", name="Rotate key").click()
    second = secret_of(page)
    assert second != first
    expect(page.get_by_text("The previous secret works until")).to_be_visible()
    assert [generate(ui_service, secret) for secret in (first, second)] == [200, 200]
    page.get_by_role("button", name="I've saved the secret").click()

    page.get_by_role("button", name="Revoke", exact=True).click()
    page.get_by_role("button", name="Revoke key").click()
    expect(page.locator(".notice.good")).to_have_text("The key “desk” is revoked.")
    assert generate(ui_service, second) == 401


def test_a_reload_reveals_no_secret_and_creates_no_second_key(
    visits: Visits, ui_service: Service, customer: Viewer
) -> None:
    page = visits.open("/keys/new", viewer=customer)
    page.get_by_label("Name").fill("once")
    page.get_by_role("button", name="Create API key", exact=True).click()
    secret = secret_of(page)

    page.reload()

    expect(page.locator(".notice.good")).to_contain_text("This form was sent before.")
    assert secret not in page.content()
    expect(page.locator("tbody").get_by_role("link", name="once", exact=True)).to_have_count(1)


def test_only_its_button_closes_the_dialog_with_the_secret(
    visits: Visits, ui_service: Service, customer: Viewer
) -> None:
    page = visits.open("/keys", viewer=customer)
    page.get_by_role("button", name="Create API Key").click()
    page.get_by_label("Name").fill("closed")
    page.keyboard.press("Enter")
    secret = secret_of(page)
    expect(page.get_by_role("heading", name="The secret of")).to_be_focused()

    for _ in range(3):
        page.keyboard.press("Escape")
    page.mouse.click(5, 5)

    assert secret_of(page) == secret
    expect(page.locator("dialog[open] .close")).to_have_count(0)
    page.get_by_role("button", name="I've saved the secret").click()
    expect(page).to_have_url(re.compile("/keys/key_"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("closed")


def test_an_admin_creates_a_key_for_a_customer_by_email(
    visits: Visits, ui_service: Service, admin_viewer: Viewer, customer: Viewer
) -> None:
    page = visits.open("/keys/new", viewer=admin_viewer, provoked=["^400 POST .*/keys/new"])
    page.get_by_label("Name").fill("theirs")
    page.get_by_label("Owner").fill("unknown@example.com")
    page.get_by_label("Requests per minute").fill("5000")
    page.get_by_text("More limits, priority and expiry").click()
    page.get_by_label("Tokens per minute").fill("7000")
    page.get_by_label("Expiry").fill("2020-01-01T00:00")
    page.get_by_role("button", name="Create API key", exact=True).click()
    expect(page.locator("#owner-fault")).to_have_text("There is no user with this email.")
    expect(page.locator("#expiresAt-fault")).to_have_text("Expiry must be in the future.")
    # The section with more limits stays open because a field in it has a value.
    expect(page.get_by_label("Tokens per minute")).to_have_value("7000")
    page.get_by_label("Expiry").fill("")
    page.get_by_label("Owner").fill("")
    page.get_by_label("Owner").press_sequentially("o'first@")
    expect(page.locator("#owners option")).to_have_attribute("value", customer.email)
    page.get_by_label("Owner").fill(customer.email)
    page.get_by_label("Priority").fill("7")
    page.get_by_role("button", name="Create API key", exact=True).click()
    secret_of(page)
    page.get_by_role("button", name="I've saved the secret").click()

    facts = page.locator(".facts")
    expect(facts).to_contain_text(customer.email)
    expect(facts).to_contain_text("Priority7")


def test_a_time_is_chosen_in_the_viewers_zone(
    visits: Visits, ui_service: Service, admin_viewer: Viewer
) -> None:
    key = ui_service.make_key(name="zoned", expiresAt="2030-07-01T12:00:30+00:00")
    page = visits.open(f"/keys/{key['id']}/edit", viewer=admin_viewer, timezone="Asia/Tokyo")
    page.get_by_text("More limits, priority and expiry").click()
    expect(page.get_by_label("Expiry")).to_have_value("2030-07-01T21:00")
    page.get_by_label("Name").fill("zoned still")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("zoned still")
    headers = ui_service.sign_in_admin()
    stored = ui_service.call("GET", f"/api/keys/{key['id']}", headers=headers).json()
    assert stored["expiresAt"].startswith("2030-07-01T12:00:30"), (
        "a field without a change stays as it was"
    )

    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_text("More limits, priority and expiry").click()
    page.get_by_label("Expiry").fill("2031-01-01T00:00")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".facts")).to_contain_text("Jan 1, 2031")

    stored = ui_service.call("GET", f"/api/keys/{key['id']}", headers=headers).json()
    assert stored["expiresAt"].startswith("2030-12-31T15:00:00")


def test_the_pages_of_keys_have_no_faults(
    visits: Visits, ui_service: Service, admin_viewer: Viewer, check_page: PageCheck
) -> None:
    key = ui_service.make_key(name="production", tokenLimit=1000, monthlyTokenLimit=10**6)
    generate(ui_service, key["secret"])
    expired = ui_service.make_key(name="expired")
    body = {"isActive": False}
    ui_service.call(
        "PUT", f"/api/keys/{expired['id']}", json=body, headers=ui_service.sign_in_admin()
    )
    page = visits.open("/keys", viewer=admin_viewer)

    check_page(page, "keys")
    check_page(visits.open(f"/keys/{key['id']}", viewer=admin_viewer), "key")
    for form in ("edit", "rotate", "delete"):
        check_page(visits.open(f"/keys/{key['id']}/{form}", viewer=admin_viewer), f"key-{form}")
    page.get_by_role("button", name="Create API Key").click()
    page.get_by_text("More limits, priority and expiry").click()
    check_page(page, "key-new-dialog")
    page.get_by_label("Name").fill("inspected")
    page.get_by_role("button", name="Create API key", exact=True).click()
    secret_of(page)
    check_page(page, "key-secret-dialog")


def test_limits_set_by_an_admin_are_explained(
    visits: Visits, ui_service: Service, customer: Viewer
) -> None:
    headers = ui_service.sign_in(customer.email, customer.password)
    body = {"name": "restricted"}
    key = ui_service.call("POST", "/api/keys", json=body, headers=headers).json()
    path = f"/api/keys/{key['id']}"
    change = {"rateLimit": 7, "isActive": False}
    ui_service.call("PUT", path, json=change, headers=ui_service.sign_in_admin())

    page = visits.open(
        f"/keys/{key['id']}/edit",
        viewer=customer,
        javascript=False,
        provoked=["^403 POST .*/edit"],
    )

    expect(page.locator("#rateLimit-help")).to_contain_text("Set by an admin")
    expect(page.get_by_text("An admin deactivated it")).to_be_visible()
    page.get_by_label("Requests per minute").fill("8")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#rateLimit-fault")).to_have_text(
        "Requests per minute must be at most 7: an admin has set that."
    )
    page.goto(f"/keys/{key['id']}")
    expect(page.locator(".facts")).to_contain_text("Set by an admin")
