"""Detects faults of pages that are not visible on them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, Response, WebError

#: The browser logs a failed request, too; the request itself has its URL.
LOGGED_REQUEST = "Failed to load resource"
#: The page aborted a request: it navigated, or the response became a download.
ABORTED = "net::ERR_ABORTED"
QUIET_SECONDS = 15.0
POLL_MS = 20.0


class Watch:
    """Collects the faults and the requests of a new browser context.

    A fault is an error on the console (such as a violation of the Content-Security-Policy), an
    uncaught exception, a failed request, or a status of 400 or more.

    Args:
        provoked: patterns of faults that the test provokes on purpose.
    """

    def __init__(self, context: BrowserContext, provoked: Sequence[str] = ()) -> None:
        self.faults: list[str] = []
        self._provoked = [re.compile(pattern) for pattern in provoked]
        self._pending: set[Request] = set()
        self._loaded: dict[Page, list[Request]] = {}
        context.on("console", self._console)
        context.on("weberror", self._exception)
        context.on("request", self._begin)
        context.on("response", self._respond)
        context.on("requestfinished", self._finish)
        context.on("requestfailed", self._fail)

    def requests_of(self, page: Page) -> list[Request]:
        """Return the requests of a page, starting with its document."""
        return list(self._loaded.get(page, ()))

    def wait_until_quiet(self, page: Page) -> None:
        """Wait until all requests of a page have ended and it is drawn."""
        page.wait_for_load_state("load")
        waited_ms = 0.0
        while True:
            page.evaluate(
                "() => new Promise(done => requestAnimationFrame("
                "() => requestAnimationFrame(done)))"
            )
            waiting = [r.url for r in self._pending if r.resource_type != "eventsource"]
            if not waiting:
                return
            if waited_ms > QUIET_SECONDS * 1000:
                pytest.fail(f"{page.url} still waits for {waiting}")
            page.wait_for_timeout(POLL_MS)
            waited_ms += POLL_MS

    def check(self) -> None:
        """Fail the test on any fault so far."""
        if self.faults:
            pytest.fail("the page has faults:\n" + "\n".join(self.faults))

    def _add(self, fault: str) -> None:
        if not any(pattern.search(fault) for pattern in self._provoked):
            self.faults.append(fault)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(LOGGED_REQUEST):
            self._add(f"console: {message.text}")

    def _exception(self, error: WebError) -> None:
        self._add(f"exception: {error.error}")

    def _begin(self, request: Request) -> None:
        self._pending.add(request)
        # Requests of a service worker have no frame; our pages have no service worker.
        page = request.frame.page
        is_document = request.is_navigation_request() and request.frame == page.main_frame
        if is_document and request.redirected_from is None:
            self._loaded[page] = []
        self._loaded.setdefault(page, []).append(request)

    def _respond(self, response: Response) -> None:
        if response.status >= 400:
            self._add(f"{response.status} {response.request.method} {response.url}")

    def _finish(self, request: Request) -> None:
        self._pending.discard(request)

    def _fail(self, request: Request) -> None:
        self._pending.discard(request)
        if request.failure != ABORTED:
            self._add(f"{request.failure} {request.method} {request.url}")
