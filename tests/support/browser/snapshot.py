"""Looks at a page as people see it: on a telephone and on a desk, in light and in dark."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, ViewportSize

from tests.support.browser.axe import find_barriers
from tests.support.browser.watch import Watch
from tests.support.browser.weight import OUTPUT

Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")
PHONE = ViewportSize(width=390, height=844)
DESK = ViewportSize(width=1440, height=900)


def look_at(page: Page, watch: Watch, name: str, output: Path = OUTPUT) -> None:
    """Take the page's four pictures and fail the test on what is wrong with it.

    The page is looked at as it stands, never loaded anew: what follows the window and the theme
    (a chart's colours) must follow them at once, as it does for a person who turns the telephone.
    """
    faults = []
    for theme in THEMES:
        page.emulate_media(color_scheme=theme)
        for size in (DESK, PHONE):
            page.set_viewport_size(size)
            watch.wait_until_quiet(page)
            where = f"{name}-{size['width']}-{theme}"
            page.screenshot(path=output / f"{where}.png", full_page=True, animations="disabled")
            if size is PHONE and (excess := _excess_width(page)) > 0:
                faults.append(f"{where}: scrolls sideways by {excess} pixels")
            faults += [f"{where}: {barrier}" for barrier in find_barriers(page)]
    watch.check()
    if faults:
        pytest.fail("\n".join(dict.fromkeys(faults)))


def _excess_width(page: Page) -> int:
    """Return by how much a page is wider than its window; what scrolls within it is not."""
    return int(page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth"))
