"""The admin UI beside a real service, and a real browser that visits it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
import redis
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Page, StorageState, expect, sync_playwright

from admin_ui.app import create_app
from admin_ui.services import Services
from core.config.settings import Settings
from models.accounts.user import User
from tests.support.browser.chromium import MISSING, find_browser
from tests.support.browser.snapshot import look_at
from tests.support.browser.visits import WAIT_MS, Visitor, Visits, admin_of
from tests.support.browser.weight import PageCost
from tests.support.service import Service

Look = Callable[[Page, str], None]


@pytest.fixture
def browser(base_settings: Settings, admin: User, client: redis.Redis) -> FlaskClient:
    """The pages in this process over an empty database with an admin; nobody is signed in."""
    return create_app(Services.from_settings(base_settings)).test_client()


# Not for the whole run: while Playwright is open, this thread can run no event loop of its own,
# as tests in other folders do.
@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """One browser for this folder; without any, tests are skipped, but fail where `CI` is set."""
    program = find_browser()
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        # Playwright itself turns off the sandbox, which root cannot use, and /dev/shm.
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(service: Service) -> Service:
    """The module's service with its admin UI."""
    service.start_admin_ui()
    return service


@pytest.fixture(scope="module")
def _signed_in(site: Service) -> dict[Visitor, StorageState]:
    return {}


@pytest.fixture
def the_admin(site: Service) -> Visitor:
    return admin_of(site)


@pytest.fixture
def visits(
    chromium: Browser, site: Service, _signed_in: dict[Visitor, StorageState]
) -> Iterator[Visits]:
    """Opens pages of the admin UI; at the end the test fails on what went wrong in them."""
    visits = Visits(chromium, site, _signed_in)
    yield visits
    visits.close()


@pytest.fixture
def look(visits: Visits, record_property: Callable[[str, object], None]) -> Look:
    """Takes a page's pictures and judges it; its cost stands in the table after the run."""

    def look(page: Page, name: str) -> None:
        watch = visits.watch_of(page)
        watch.wait_until_quiet(page)
        cost = PageCost.of(name, watch.requests_of(page))
        record_property(*cost.as_property())
        look_at(page, watch, name)
        cost.check()

    return look
