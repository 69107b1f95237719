"""What goes wrong in a browser's pages without anybody seeing it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, Response, WebError

#: How the browser tells a failed request once more; the request itself says which.
TOLD_TWICE = "Failed to load resource"
#: A request that its own page gave up: it went elsewhere, or the answer became a download.
GIVEN_UP = "net::ERR_ABORTED"
QUIET_SECONDS = 15.0
POLL_MS = 20.0


class Watch:
    """Collects the faults and the requests of one browser context, from its beginning on.

    A fault is an error on the console (a breach of the Content-Security-Policy is one), an
    exception that nothing caught, a request that failed, or an answer of 400 and more.

    Args:
        provoked: patterns of faults that the test brings about on purpose.
    """

    def __init__(self, context: BrowserContext, provoked: Sequence[str] = ()) -> None:
        self.faults: list[str] = []
        self._provoked = [re.compile(pattern) for pattern in provoked]
        self._under_way: set[Request] = set()
        self._loaded: dict[Page, list[Request]] = {}
        context.on("console", self._console)
        context.on("weberror", self._exception)
        context.on("request", self._begin)
        context.on("response", self._answer)
        context.on("requestfinished", self._finish)
        context.on("requestfailed", self._fail)

    def requests_of(self, page: Page) -> list[Request]:
        """Return what a page asked for, from its document on."""
        return list(self._loaded.get(page, ()))

    def wait_until_quiet(self, page: Page) -> None:
        """Wait for what a page's scripts asked for, and for it to be drawn."""
        page.wait_for_load_state("load")
        waited_ms = 0.0
        while True:
            page.evaluate(
                "() => new Promise(done => requestAnimationFrame("
                "() => requestAnimationFrame(done)))"
            )
            waiting = [r.url for r in self._under_way if r.resource_type != "eventsource"]
            if not waiting:
                return
            if waited_ms > QUIET_SECONDS * 1000:
                pytest.fail(f"{page.url} still waits for {waiting}")
            page.wait_for_timeout(POLL_MS)
            waited_ms += POLL_MS

    def check(self) -> None:
        """Fail the test on any fault so far."""
        if self.faults:
            pytest.fail("the browser met faults:\n" + "\n".join(self.faults))

    def _add(self, fault: str) -> None:
        if not any(pattern.search(fault) for pattern in self._provoked):
            self.faults.append(fault)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(TOLD_TWICE):
            self._add(f"console: {message.text}")

    def _exception(self, error: WebError) -> None:
        self._add(f"exception: {error.error}")

    def _begin(self, request: Request) -> None:
        self._under_way.add(request)
        # A service worker's requests have no frame; our pages have no service worker.
        page = request.frame.page
        is_document = request.is_navigation_request() and request.frame == page.main_frame
        if is_document and request.redirected_from is None:
            self._loaded[page] = []
        self._loaded.setdefault(page, []).append(request)

    def _answer(self, response: Response) -> None:
        if response.status >= 400:
            self._add(f"{response.status} {response.request.method} {response.url}")

    def _finish(self, request: Request) -> None:
        self._under_way.discard(request)

    def _fail(self, request: Request) -> None:
        self._under_way.discard(request)
        if request.failure != GIVEN_UP:
            self._add(f"{request.failure} {request.method} {request.url}")
