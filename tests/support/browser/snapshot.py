"""Screenshots and checks of a page: on a phone and on a desktop, light and dark."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, ViewportSize

from tests.support.browser.axe import find_violations
from tests.support.browser.watch import Watch
from tests.support.browser.weight import OUTPUT

Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")
PHONE = ViewportSize(width=390, height=844)
DESKTOP = ViewportSize(width=1440, height=900)


def take_snapshots(page: Page, watch: Watch, name: str, output: Path = OUTPUT) -> None:
    """Take four screenshots of a page, and fail the test on its faults.

    The page is not reloaded: charts and layout must follow a change of the window and the theme at
    once.
    """
    faults = []
    for theme in THEMES:
        page.emulate_media(color_scheme=theme)
        for size in (DESKTOP, PHONE):
            page.set_viewport_size(size)
            watch.wait_until_quiet(page)
            where = f"{name}-{size['width']}-{theme}"
            page.screenshot(path=output / f"{where}.png", full_page=True, animations="disabled")
            if size is PHONE and (excess := _excess_width(page)) > 0:
                faults.append(f"{where}: scrolls sideways by {excess} pixels")
            faults += [f"{where}: {violation}" for violation in find_violations(page)]
    watch.check()
    if faults:
        pytest.fail("\n".join(dict.fromkeys(faults)))


def _excess_width(page: Page) -> int:
    """Return by how many pixels a page is wider than its window."""
    return int(page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth"))
