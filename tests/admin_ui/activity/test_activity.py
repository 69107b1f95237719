"""The activity page: sentences for audit entries, filters and paging."""

from __future__ import annotations

import ast
import re
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import requests
from playwright.sync_api import Page, expect

from admin_ui.activity.sentences import GROUPS, SENTENCES
from tests.admin_ui.conftest import PageCheck
from tests.support.browser.visits import Viewer, Visits
from tests.support.paths import ROOT
from tests.support.service import Service

CUSTOMER = Viewer("ada@example.com", "a-password-of-hers")


@pytest.fixture(scope="module")
def service_with_activity(ui_service: Service) -> Service:
    """A service with audited actions of an admin and a customer, and with failed sign-ins."""
    admin = ui_service.sign_in_admin()
    made = {"email": CUSTOMER.email, "password": CUSTOMER.password, "role": "customer"}
    assert ui_service.call("POST", "/api/users", json=made, headers=admin).status_code == 201
    ada = ui_service.sign_in(CUSTOMER.email, CUSTOMER.password)
    own = {"name": "<ada's>", "rateLimit": 60}
    key = ui_service.call("POST", "/api/keys", json=own, headers=ada).json()["id"]
    for change in ({"rateLimit": 1200}, {"isActive": False}, {"name": "new", "priority": 5}):
        ui_service.call("PUT", f"/api/keys/{key}", json=change, headers=admin).raise_for_status()
    ui_service.call("POST", f"/api/keys/{key}/rotate", json={"graceSeconds": 3600}, headers=ada)
    for email in (CUSTOMER.email, "unknown@example.com"):
        wrong = {"email": email, "password": "wrong-password"}
        assert (
            requests.post(f"{ui_service.url}/api/auth/login", json=wrong, timeout=20).status_code
            == 401
        )
    ui_service.call("DELETE", f"/api/keys/{key}", headers=ada).raise_for_status()
    return ui_service


def sentences(page: Page) -> list[str]:
    """Return the sentences of the entries, newest first."""
    page.wait_for_load_state()  # a click returns before the next page is loaded
    return [text.strip() for text in page.locator(".event > p").all_inner_texts()]


def test_entries_are_sentences(
    service_with_activity: Service, visits: Visits, admin_viewer: Viewer
) -> None:
    page = visits.open("/activity", viewer=admin_viewer)

    admin, ada = admin_viewer.email, CUSTOMER.email
    assert sentences(page) == [
        f"{ada} revoked the API key “new”",
        "failed sign-in Somebody tried to sign in with an email that no account has",
        f"failed sign-in Somebody failed to sign in as {ada}",
        f"{ada} gave the API key “new” a new secret; the old one works for 1 h longer",
        f"{admin} changed the name and the priority of the API key “new” of {ada}",
        f"{admin} deactivated the API key “new” of {ada}",
        f"{admin} changed the rate limit of the API key “new” of {ada} from 60 to 1,200",
        f"{ada} created the API key “new”",
        f"{admin} created the account {ada}, a customer",
    ]
    page.locator(".event", has_text="a new secret").locator("summary").click()
    assert "Old secret works for\n1 h" in page.locator(".event details[open] dl").inner_text()
    page.locator(".event", has_text="a new secret").locator("summary").click()
    page.locator(".event", has_text="the name and the priority").locator("summary").click()
    facts = page.locator(".event details[open] dl").inner_text()
    assert "<ada's> → new" in facts and "1 → 5" in facts and "key.update" in facts


def test_filters_find_entries(
    service_with_activity: Service, visits: Visits, admin_viewer: Viewer
) -> None:
    page = visits.open("/activity", viewer=admin_viewer, provoked=["^400 GET .*/activity"])

    page.get_by_label("Who").fill(CUSTOMER.email.upper())
    page.get_by_role("button", name="Filter").click()
    assert [s.split()[1] for s in sentences(page)] == ["revoked", "gave", "created"]

    page.get_by_label("What").select_option("auth.")
    page.get_by_label("Who").fill("")
    page.get_by_role("button", name="Filter").click()
    assert len(sentences(page)) == 2 and "Failed sign-ins" in page.content()

    page.get_by_role("link", name="Today").click()
    assert len(sentences(page)) == 2
    page.get_by_role("button", name="Clear").click()
    key = page.locator(".event", has_text="revoked")
    key.locator("summary").click()
    key.locator("a", has_text="key_").click()
    assert len(sentences(page)) == 6

    page.get_by_label("To").fill("2020-01-01")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_text("No activity matches these filters.")).to_be_visible()
    page.get_by_label("Who").fill("unknown@example.com")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_text("No account has or had this email.")).to_be_visible()


def test_the_pager_works_without_javascript(
    service_with_activity: Service, visits: Visits, admin_viewer: Viewer
) -> None:
    admin = service_with_activity.sign_in_admin()
    user = service_with_activity.call("GET", "/api/auth/me", headers=admin).json()
    path = f"/api/users/{user['id']}"
    for n in range(101):
        service_with_activity.call(
            "PUT", path, json={"name": f"admin {n}"}, headers=admin
        ).raise_for_status()
    page = visits.open("/activity?group=user.", viewer=admin_viewer, javascript=False)

    first = sentences(page)
    page.get_by_role("button", name="Older").click()
    second = sentences(page)
    page.get_by_role("button", name="Older").click()
    last = sentences(page)
    assert (len(first), len(second), len(last)) == (50, 50, 2)
    assert "created the account" in last[-1]
    assert page.get_by_role("button", name="Older").count() == 0
    page.get_by_role("button", name="Newer").click()
    assert sentences(page) == second
    page.get_by_role("button", name="Newer").click()
    assert sentences(page) == first
    assert page.get_by_role("button", name="Newer").count() == 0


def test_today_is_the_viewers_day(
    service_with_activity: Service, visits: Visits, admin_viewer: Viewer
) -> None:
    # The zone furthest ahead: its date differs from that of UTC for 14 hours of a day.
    zone = "Pacific/Kiritimati"
    days = {datetime.now(ZoneInfo(zone)).date()}
    page = visits.open("/activity", viewer=admin_viewer, timezone=zone)

    page.get_by_role("link", name="Today").click()

    expect(page).to_have_url(re.compile("range=today&zone=Pacific%2FKiritimati"))
    days.add(datetime.now(ZoneInfo(zone)).date())
    assert page.get_by_label("From").input_value() in {str(day) for day in days}


def test_the_activity_page_has_no_faults(
    service_with_activity: Service, visits: Visits, admin_viewer: Viewer, check_page: PageCheck
) -> None:
    page = visits.open("/activity", viewer=admin_viewer)
    page.locator("summary", has_text="from").first.click()

    check_page(page, "activity")


def test_every_action_of_the_api_has_a_sentence_and_a_group() -> None:
    written = {action for path in (ROOT / "api").rglob("*.py") for action in _actions(path)}

    assert written == SENTENCES.keys()
    assert {action.partition(".")[0] + "." for action in written} == GROUPS.keys()


def _actions(path: Path) -> set[str]:
    """Return the actions that a module passes to `audit` or to `audit_admin_act`."""
    return {
        str(call.args[1].value)
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in {"audit", "audit_admin_act"}
        and isinstance(call.args[1], ast.Constant)
    }
