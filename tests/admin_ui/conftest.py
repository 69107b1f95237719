"""Fixtures: the admin UI in this process, and a real browser beside a real service."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Page, StorageState, expect, sync_playwright

from admin_ui.app import create_app
from admin_ui.services import PageServices
from core.config.settings import Settings
from models.accounts.user import User
from tests.support.browser.appearance import check_appearance
from tests.support.browser.chromium import MISSING, find_browser
from tests.support.browser.visits import WAIT_MS, Viewer, Visits, admin_of
from tests.support.browser.weight import OUTPUT, PageCost
from tests.support.service import Service

PageCheck = Callable[[Page, str], None]
#: Whether a phase of a test has failed.
FAILED = pytest.StashKey[bool]()
CUSTOMER = Viewer("o'first@example.com", "customer password")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note that a test has failed, for the fixtures that it leaves."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(scope="session")
def _pages(_settings: Settings) -> Flask:
    """The pages hold nothing between requests, so that tests can share them."""
    return create_app(PageServices.from_settings(_settings))


@pytest.fixture
def pages_client(_pages: Flask, admin: User, redis_client: redis.Redis) -> FlaskClient:
    """A client of the pages in this process, signed out; the database has only an admin."""
    return _pages.test_client()


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
        # Debian's script turns on the rendering of a GPU, which an emulation would compute here.
        arguments = ["--disable-gpu", "--disable-software-rasterizer"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def ui_service(service: Service) -> Service:
    """The service of the module with an admin UI."""
    service.start_admin_ui()
    return service


@pytest.fixture(scope="module")
def _signed_in(ui_service: Service) -> dict[Viewer, StorageState]:
    return {}


@pytest.fixture
def admin_viewer(ui_service: Service) -> Viewer:
    """The first admin."""
    return admin_of(ui_service)


@pytest.fixture(scope="module")
def customer(ui_service: Service) -> Viewer:
    """A customer without keys; pages and programs must keep the quote in the email."""
    body = {"email": CUSTOMER.email, "password": CUSTOMER.password}
    response = ui_service.call("POST", "/api/users", json=body, headers=ui_service.sign_in_admin())
    assert response.status_code == 201, response.text
    return CUSTOMER


@pytest.fixture
def visits(
    chromium: Browser,
    ui_service: Service,
    _signed_in: dict[Viewer, StorageState],
    request: pytest.FixtureRequest,
) -> Iterator[Visits]:
    """Opens pages of the admin UI; the test fails on faults in any of them.

    A test that fails leaves a picture of each page as it was then.
    """
    visits = Visits(chromium, ui_service, _signed_in)
    yield visits
    if request.node.stash.get(FAILED, False):
        visits.take_pictures(OUTPUT / "failed", request.node.name)
    visits.close()


@pytest.fixture
def check_page(visits: Visits, record_property: Callable[[str, object], None]) -> PageCheck:
    """Checks a page in both themes and at both sizes, and adds its cost to the table of the run."""

    def check(page: Page, name: str) -> None:
        watch = visits.watch_of(page)
        watch.wait_until_quiet(page)
        cost = PageCost.of(name, watch.requests_of(page))
        record_property(*cost.as_property())
        check_appearance(page, watch, name)
        cost.check()

    return check
