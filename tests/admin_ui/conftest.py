"""Fixtures: the admin UI in this process, and a real browser beside a real service."""

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
from tests.support.browser.snapshot import take_snapshots
from tests.support.browser.visits import WAIT_MS, Visitor, Visits, admin_of
from tests.support.browser.weight import PageCost
from tests.support.service import Service

Snapshot = Callable[[Page, str], None]


@pytest.fixture
def pages_client(base_settings: Settings, admin: User, redis_client: redis.Redis) -> FlaskClient:
    """A client of the pages in this process, signed out; the database has only an admin."""
    return create_app(Services.from_settings(base_settings)).test_client()


# Not for the whole run: while Playwright is open, this thread can run no other event loop, which
# tests in other folders need.
@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """One browser for this folder. Without a browser tests are skipped; with `CI` set they fail."""
    program = find_browser()
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        # Playwright disables the sandbox, which root cannot use, and /dev/shm.
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def ui_service(service: Service) -> Service:
    """The service of the module with an admin UI."""
    service.start_admin_ui()
    return service


@pytest.fixture(scope="module")
def _signed_in(ui_service: Service) -> dict[Visitor, StorageState]:
    return {}


@pytest.fixture
def admin_visitor(ui_service: Service) -> Visitor:
    return admin_of(ui_service)


@pytest.fixture
def visits(
    chromium: Browser, ui_service: Service, _signed_in: dict[Visitor, StorageState]
) -> Iterator[Visits]:
    """Opens pages of the admin UI; the test fails on faults in any of them."""
    visits = Visits(chromium, ui_service, _signed_in)
    yield visits
    visits.close()


@pytest.fixture
def snapshot(visits: Visits, record_property: Callable[[str, object], None]) -> Snapshot:
    """Takes screenshots of a page, checks it, and adds its cost to the table after the run."""

    def snapshot(page: Page, name: str) -> None:
        watch = visits.watch_of(page)
        watch.wait_until_quiet(page)
        cost = PageCost.of(name, watch.requests_of(page))
        record_property(*cost.as_property())
        take_snapshots(page, watch, name)
        cost.check()

    return snapshot
