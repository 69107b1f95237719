"""Opens pages of the admin UI in a real browser."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Error, Page, StorageState

from tests.support.browser.appearance import DESKTOP, Theme, ViewportSize, take_picture
from tests.support.browser.watch import Watch
from tests.support.service import Service

WAIT_MS = 20_000.0


@dataclass(frozen=True, slots=True)
class Viewer:
    """A user whose session a page has."""

    email: str
    password: str


def admin_of(service: Service) -> Viewer:
    """Return the first admin."""
    settings = service.settings
    return Viewer(settings.admin_email, settings.admin_password.get_secret_value())


def sign_in(page: Page, viewer: Viewer) -> None:
    """Sign in by the form; it redirects to the settings, which everyone may see."""
    page.goto("/sign-in?next=/settings")
    page.get_by_label("Email").fill(viewer.email)
    page.get_by_label("Password").fill(viewer.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/settings")


@dataclass(slots=True)
class Visits:
    """Opens pages in isolated browser contexts, and watches them for faults.

    Args:
        signed_in: the sessions of viewers, which the tests of a module share.
    """

    browser: Browser
    service: Service
    signed_in: dict[Viewer, StorageState]
    _contexts: list[BrowserContext] = field(default_factory=list)
    _watches: dict[Page, Watch] = field(default_factory=dict)

    def open(
        self,
        path: str = "/",
        *,
        viewer: Viewer | None = None,
        size: ViewportSize = DESKTOP,
        theme: Theme = "light",
        timezone: str = "UTC",
        locale: str = "en-US",
        provoked: Sequence[str] = (),
        javascript: bool = True,
    ) -> Page:
        """Return a page at `path` in a new context, signed in as `viewer`.

        Args:
            provoked: patterns of faults that the test provokes: `"^422 POST "`.
        """
        state = None if viewer is None else self._state_of(viewer)
        context = self.browser.new_context(
            base_url=self.service.admin_url,
            viewport=size,
            color_scheme=theme,
            timezone_id=timezone,
            locale=locale,
            storage_state=state,
            java_script_enabled=javascript,
        )
        context.set_default_timeout(WAIT_MS)
        self._contexts.append(context)
        watch = Watch(context, provoked)
        page = context.new_page()
        # The weight of a page is that of a first visit.
        context.new_cdp_session(page).send("Network.setCacheDisabled", {"cacheDisabled": True})
        self._watches[page] = watch
        page.goto(path)
        return page

    def watch_of(self, page: Page) -> Watch:
        """Return the watch of a page."""
        return self._watches[page]

    def take_pictures(self, directory: Path, name: str) -> None:
        """Write a picture of each open page, for a test that has failed."""
        for number, page in enumerate(self._watches):
            # A page that cannot be drawn must not hide why the test failed.
            with suppress(Error):
                take_picture(page, directory / f"{_file_name(name)}-{number}.png")

    def close(self) -> None:
        """Close all pages, and fail the test on faults in any of them."""
        for context in self._contexts:
            context.close()
        for watch in self._watches.values():
            watch.check()

    def _state_of(self, viewer: Viewer) -> StorageState:
        if viewer not in self.signed_in:
            page = self.open("/sign-in")
            sign_in(page, viewer)
            self.signed_in[viewer] = page.context.storage_state()
        return self.signed_in[viewer]


def _file_name(name: str) -> str:
    """Return the name of a test as a name of a file: a parameter may have any characters."""
    return re.sub(r"[^\w-]+", "-", name)[:100]
