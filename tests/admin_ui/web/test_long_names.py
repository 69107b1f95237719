"""The longest names that the API accepts, without a space, on every page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Page

from tests.support.browser.appearance import DESKTOP, PHONE
from tests.support.browser.visits import Viewer, Visits
from tests.support.polling import wait_until
from tests.support.service import Service

LONG = "n" * 200
CUSTOMER = Viewer("e" * 200 + "@example.com", "customer password")
#: Elements that are wider than their container: page, dialog and, in wide windows, tables.
EXCESS = """isWide => {
    const parts = [document.documentElement, ...document.querySelectorAll("dialog[open] > *")];
    if (isWide) parts.push(...document.querySelectorAll(".scroll"));
    return parts
        .map(part => [part.className || part.localName, part.scrollWidth - part.clientWidth])
        .filter(([, excess]) => excess > 0)
        .map(([name, excess]) => name + " by " + excess);
}"""


@dataclass(frozen=True, slots=True)
class LongNames:
    """Ids of a customer with long names, and of the customer's rows."""

    user: str
    key: str
    job: str
    batch: str


@pytest.fixture(scope="module")
def long_names(ui_service: Service) -> LongNames:
    """A customer with a key, a job and a completed batch; all have long names."""
    body = {"email": CUSTOMER.email, "password": CUSTOMER.password, "name": LONG}
    user = ui_service.call(
        "POST", "/api/users", json=body, headers=ui_service.sign_in_admin()
    ).json()
    headers = ui_service.sign_in(CUSTOMER.email, CUSTOMER.password)
    key = ui_service.call("POST", "/api/keys", json={"name": LONG}, headers=headers).json()
    secret = {"Authorization": f"Bearer {key['secret']}"}
    request = {"prompt": "hello", "maxTokens": 5, "metadata": {LONG: LONG}}
    job = ui_service.call("POST", "/api/llm/generate", json=request, headers=secret).json()
    lines = [{"custom_id": LONG, "prompt": "hello", "maxTokens": 5}, {"custom_id": LONG[1:]}]
    batch = ui_service.call(
        "POST",
        f"/api/llm/batches?onError=skip&name={LONG}",
        data="\n".join(map(json.dumps, lines)),
        headers={**secret, "Content-Type": "application/jsonl"},
    ).json()
    found = f"/api/llm/batches/{batch['id']}"
    wait_until(
        lambda: ui_service.call("GET", found, headers=secret).json()["status"] == "completed", 30
    )
    return LongNames(user["id"], key["id"], job["id"], batch["id"])


def addresses(long_names: LongNames, *, is_admin: bool) -> Iterator[str]:
    """Yield the paths of pages and dialogs; pages that are equal for both only for an admin."""
    key, job, batch = (
        f"/keys/{long_names.key}",
        f"/jobs/{long_names.job}",
        f"/batches/{long_names.batch}",
    )
    if not is_admin:
        yield from ("/playground", "/quick-start", "/settings", "/batches/new", "/keys/new")
        yield from ("/", "/keys", key, job, batch, f"{job}/again", f"{batch}/retry")
        return
    yield from ("/", "/customers", "/keys", "/jobs", "/jobs?queue=bulk", "/batches", "/activity")
    yield from (
        "/usage?by=user",
        f"/usage?by=key&user={long_names.user}",
        f"/usage?key={long_names.key}",
    )
    yield from (f"/customers/{long_names.user}{part}" for part in ("", "/edit", "/delete"))
    yield from (
        key,
        f"{key}/edit",
        f"{key}/rotate",
        f"{key}/delete",
        f"/keys?owner={long_names.user}",
    )
    yield from (
        job,
        f"{job}/cancel",
        batch,
        f"{batch}/cancel",
        f"/activity?target={long_names.key}",
    )


@pytest.mark.parametrize("is_admin", [True, False], ids=["admin", "customer"])
def test_no_name_makes_a_page_scroll_sideways(
    visits: Visits, admin_viewer: Viewer, long_names: LongNames, is_admin: bool
) -> None:
    viewer = admin_viewer if is_admin else CUSTOMER
    page = visits.open("/settings", viewer=viewer)

    wide = []
    for address in addresses(long_names, is_admin=is_admin):
        page.set_viewport_size(DESKTOP)
        page.goto(address)
        wide += excess_of(visits, page, address)

    assert wide == []


@pytest.mark.parametrize("action", ["Edit", "Rotate", "Revoke"])
def test_no_name_makes_a_dialog_scroll_sideways(
    visits: Visits, admin_viewer: Viewer, long_names: LongNames, action: str
) -> None:
    page = visits.open(f"/keys?owner={long_names.user}", viewer=admin_viewer)

    page.get_by_role("link", name=f"{action} {LONG}").click()
    page.locator("dialog[open] h1").wait_for()

    assert excess_of(visits, page, action) == []


def test_a_long_name_is_cut_and_its_tooltip_has_all_of_it(
    visits: Visits, admin_viewer: Viewer, long_names: LongNames
) -> None:
    page = visits.open("/keys", viewer=admin_viewer)
    name = page.locator("tbody .named").first

    is_cut, height = name.evaluate(
        "part => [part.scrollHeight > part.clientHeight, part.clientHeight]"
    )

    assert name.get_attribute("title") == LONG
    assert is_cut and height < 60


def excess_of(visits: Visits, page: Page, address: str) -> list[str]:
    """Return the elements of a page that are too wide, on a desktop and on a phone."""
    found = []
    for size in (DESKTOP, PHONE):
        page.set_viewport_size(size)
        visits.watch_of(page).wait_until_quiet(page)
        parts = page.evaluate(EXCESS, size is DESKTOP)
        found += [f"{address} at {size['width']}: {part}" for part in parts]
    return found
