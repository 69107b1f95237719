"""The pages of customers, with the real service."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.admin_ui.conftest import PageCheck
from tests.support.browser.visits import Viewer, Visits
from tests.support.service import Service


def add_customer(service: Service, email: str, **fields: str) -> str:
    """Create a user, and return its id."""
    body = {"email": email, "password": "a long password", **fields}
    response = service.call("POST", "/api/users", json=body, headers=service.sign_in_admin())
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


@pytest.mark.parametrize("javascript", [True, False], ids=["with", "without"])
def test_a_customer_is_added_changed_and_deleted(
    visits: Visits, ui_service: Service, admin_viewer: Viewer, javascript: bool
) -> None:
    email = f"made-{javascript}@example.com".lower()
    refused = "^(400|409) POST .*/customers/"
    page = visits.open("/customers", viewer=admin_viewer, javascript=javascript, provoked=[refused])
    page.get_by_role("button", name="Add Customer").click()
    page.get_by_label("Name").fill("Ada")
    page.get_by_label("Email").fill(ui_service.settings.admin_email)
    page.get_by_label("Password").fill("a long password")
    page.get_by_role("button", name="Add customer", exact=True).click()
    expect(page.locator("#email-fault")).to_have_text("Another account has this email.")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill("a long password")
    page.get_by_role("button", name="Add customer", exact=True).click()
    expect(page.locator(".notice.good")).to_have_text(f"{email} is added.")
    expect(page.get_by_role("heading", level=1)).to_contain_text(email)

    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_label("Name").fill("Ada Lovelace")
    page.get_by_label("Role").select_option("admin")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".notice.good")).to_have_text("Saved.")
    expect(page.locator("h1 .state")).to_have_text("admin")
    expect(page.locator(".facts")).to_contain_text("Ada Lovelace")

    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_text("There are no API keys.")).to_be_visible()
    page.get_by_role("button", name="Delete customer").click()
    expect(page.locator(".notice.good")).to_have_text(f"{email} is deleted, with all API keys.")
    expect(page.get_by_role("link", name=email)).to_have_count(0)


def test_the_pages_of_customers_have_no_faults(
    visits: Visits, ui_service: Service, admin_viewer: Viewer, check_page: PageCheck
) -> None:
    user_id = add_customer(ui_service, "grace@example.com", name="Grace Hopper")
    ui_service.make_key(userId=user_id, name="compiler")

    page = visits.open("/customers", viewer=admin_viewer)
    check_page(page, "customers")
    check_page(visits.open(f"/customers/{user_id}", viewer=admin_viewer), "customer")
    check_page(visits.open("/customers/new", viewer=admin_viewer), "customer-new")
    check_page(visits.open(f"/customers/{user_id}/delete", viewer=admin_viewer), "customer-delete")
    page.get_by_role("link", name="Edit grace@example.com").click()
    expect(page.get_by_role("dialog", name="Edit customer")).to_be_visible()
    check_page(page, "customer-edit-dialog")


def test_the_list_is_searched_as_one_types_and_sorted(
    visits: Visits, ui_service: Service, admin_viewer: Viewer
) -> None:
    for name in ("lin", "kim", "lee"):
        add_customer(ui_service, f"{name}@found.example.com", name=name.title())
    page = visits.open("/customers?sort=email", viewer=admin_viewer)
    emails = page.locator("#list tbody tr td:first-child a")

    page.get_by_label("Search").fill("@FOUND")
    expect(emails).to_have_text([f"{n}@found.example.com" for n in ("kim", "lee", "lin")])
    assert "q=%40FOUND" in page.url
    page.get_by_role("link", name="Customer", exact=True).click()
    expect(emails).to_have_text([f"{n}@found.example.com" for n in ("lin", "lee", "kim")])
    expect(page.get_by_role("columnheader", name="Customer")).to_have_attribute(
        "aria-sort", "descending"
    )

    page.get_by_label("Role").select_option("admin")
    expect(page.get_by_text("No customers match your search.")).to_be_visible()


def test_an_edit_in_a_list_leads_back_to_the_list(
    visits: Visits, ui_service: Service, admin_viewer: Viewer
) -> None:
    user_id = add_customer(ui_service, "mary@back.example.com")
    ui_service.make_key(userId=user_id, name="marys")
    for list_path, edit in (
        ("/customers?q=%40back&sort=email", "Edit mary@back.example.com"),
        ("/keys?q=marys&status=active", "Edit marys"),
    ):
        page = visits.open(list_path, viewer=admin_viewer)
        page.get_by_role("link", name=edit).click()
        page.get_by_label("Name").fill("marys new name")
        page.get_by_role("button", name="Save").click()
        expect(page.locator(".notice.good")).to_have_text("Saved.")
        assert page.url == ui_service.admin_url + list_path


def test_a_customer_is_suspended_and_reactivated(
    visits: Visits, ui_service: Service, admin_viewer: Viewer
) -> None:
    email = "paused@example.com"
    user_id = add_customer(ui_service, email)
    suspended = Viewer(email, "a long password")
    own = visits.open(
        "/keys", viewer=suspended, javascript=False, provoked=["^403 POST .*/sign-in"]
    )
    page = visits.open(f"/customers/{user_id}", viewer=admin_viewer, javascript=False)

    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_label("Active").uncheck()
    page.get_by_role("button", name="Save").click()

    expect(page.locator("h1")).to_contain_text("suspended")
    page.goto("/customers?q=paused@example.com")
    expect(page.locator("#list tbody")).to_contain_text("suspended")
    own.reload()
    own.get_by_label("Email").fill(email)
    own.get_by_label("Password").fill("a long password")
    own.get_by_role("button", name="Sign in").click()
    expect(own.get_by_text("An admin has suspended this account.")).to_be_visible()

    page.goto(f"/customers/{user_id}/edit")
    page.get_by_label("Active").check()
    page.get_by_role("button", name="Save").click()
    expect(page.locator("h1")).not_to_contain_text("suspended")
