"""Names as long as the API takes them, without a space, on every page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Page

from tests.support.browser.snapshot import DESK, PHONE
from tests.support.browser.visits import Visitor, Visits
from tests.support.polling import wait_until
from tests.support.service import Service

LONG = "n" * 200
CUSTOMER = Visitor("e" * 200 + "@example.com", "customer password")
#: By how much the page, its dialog and (where there is room) its tables are wider than their place.
EXCESS = """isWide => {
    const parts = [document.documentElement, ...document.querySelectorAll("dialog[open] > *")];
    if (isWide) parts.push(...document.querySelectorAll(".scroll"));
    return parts
        .map(part => [part.className || part.localName, part.scrollWidth - part.clientWidth])
        .filter(([, excess]) => excess > 0)
        .map(([name, excess]) => name + " by " + excess);
}"""


@dataclass(frozen=True, slots=True)
class Things:
    """What the customer with long names has, by their ids."""

    user: str
    key: str
    job: str
    batch: str


@pytest.fixture(scope="module")
def things(site: Service) -> Things:
    body = {"email": CUSTOMER.email, "password": CUSTOMER.password, "name": LONG}
    user = site.call("POST", "/api/users", json=body, headers=site.sign_in_admin()).json()
    headers = site.sign_in(CUSTOMER.email, CUSTOMER.password)
    key = site.call("POST", "/api/keys", json={"name": LONG}, headers=headers).json()
    secret = {"Authorization": f"Bearer {key['secret']}"}
    request = {"prompt": "hello", "maxTokens": 5, "metadata": {LONG: LONG}}
    job = site.call("POST", "/api/llm/generate", json=request, headers=secret).json()
    lines = [{"custom_id": LONG, "prompt": "hello", "maxTokens": 5}, {"custom_id": LONG[1:]}]
    batch = site.call(
        "POST",
        f"/api/llm/batches?onError=skip&name={LONG}",
        data="\n".join(map(json.dumps, lines)),
        headers={**secret, "Content-Type": "application/jsonl"},
    ).json()
    found = f"/api/llm/batches/{batch['id']}"
    wait_until(lambda: site.call("GET", found, headers=secret).json()["status"] == "completed", 30)
    return Things(user["id"], key["id"], job["id"], batch["id"])


def addresses(things: Things, *, is_admin: bool) -> Iterator[str]:
    """Give the pages and what their dialogs show; what looks alike for both, to an admin alone."""
    key, job, batch = (f"/keys/{things.key}", f"/jobs/{things.job}", f"/batches/{things.batch}")
    if not is_admin:
        yield from ("/playground", "/quick-start", "/settings", "/batches/new", "/keys/new")
        yield from ("/", "/keys", key, job, batch, f"{job}/again", f"{batch}/retry")
        return
    yield from ("/", "/customers", "/keys", "/jobs", "/jobs?queue=bulk", "/batches", "/activity")
    yield from ("/usage?by=user", f"/usage?by=key&user={things.user}", f"/usage?key={things.key}")
    yield from (f"/customers/{things.user}{part}" for part in ("", "/edit", "/delete"))
    yield from (key, f"{key}/edit", f"{key}/rotate", f"{key}/delete", f"/keys?owner={things.user}")
    yield from (job, f"{job}/cancel", batch, f"{batch}/cancel", f"/activity?target={things.key}")


@pytest.mark.parametrize("is_admin", [True, False], ids=["admin", "customer"])
def test_no_name_makes_a_page_scroll_sideways(
    visits: Visits, the_admin: Visitor, things: Things, is_admin: bool
) -> None:
    visitor = the_admin if is_admin else CUSTOMER
    page = visits.open("/settings", visitor=visitor)

    wide = []
    for address in addresses(things, is_admin=is_admin):
        page.set_viewport_size(DESK)
        page.goto(address)
        wide += excess_of(visits, page, address)

    assert wide == []


@pytest.mark.parametrize("what", ["Edit", "Rotate", "Revoke"])
def test_no_name_makes_a_dialog_scroll_sideways(
    visits: Visits, the_admin: Visitor, things: Things, what: str
) -> None:
    page = visits.open(f"/keys?owner={things.user}", visitor=the_admin)

    page.get_by_role("link", name=f"{what} {LONG}").click()
    page.locator("dialog[open] h1").wait_for()

    assert excess_of(visits, page, what) == []


def test_a_long_name_is_cut_and_its_tooltip_has_all_of_it(
    visits: Visits, the_admin: Visitor, things: Things
) -> None:
    page = visits.open("/keys", visitor=the_admin)
    name = page.locator("tbody .named").first

    is_cut, height = name.evaluate(
        "part => [part.scrollHeight > part.clientHeight, part.clientHeight]"
    )

    assert name.get_attribute("title") == LONG
    assert is_cut and height < 60


def excess_of(visits: Visits, page: Page, address: str) -> list[str]:
    """Return what is too wide on a page, on a desk and on a telephone."""
    found = []
    for size in (DESK, PHONE):
        page.set_viewport_size(size)
        visits.watch_of(page).wait_until_quiet(page)
        parts = page.evaluate(EXCESS, size is DESK)
        found += [f"{address} at {size['width']}: {part}" for part in parts]
    return found
