"""Pictures and checks of a page: on a phone and on a desktop, light and dark."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, ViewportSize

from tests.support.browser.axe import find_violations
from tests.support.browser.watch import Watch
from tests.support.browser.weight import OUTPUT

Theme = Literal["light", "dark"]
PHONE = ViewportSize(width=390, height=844)
DESKTOP = ViewportSize(width=1440, height=900)
#: The size at which axe checks each theme. Only the frame differs between the sizes:
#: `tests/admin_ui/web/test_frame.py` checks the frame in the two other combinations.
AXE_SIZES: dict[Theme, ViewportSize] = {"light": DESKTOP, "dark": PHONE}
#: Writes the pictures of all pages, not only of those with faults.
PICTURES = os.environ.get("PICTURES") == "1"

#: A change of the theme fades: axe must see the colours at its end.
FINISH_TRANSITIONS = """() => document.getAnimations()
    .filter(animation => animation instanceof CSSTransition)
    .forEach(transition => transition.finish())"""


def check_appearance(page: Page, watch: Watch, name: str, output: Path = OUTPUT) -> None:
    """Check a page in both themes and at both sizes, and fail the test on its faults.

    The page is not reloaded: charts and layout must follow a change of the window and the theme at
    once.

    Args:
        output: the directory of the pictures, one for each theme and size. Without `PICTURES=1`,
            only a theme and size with faults has a picture.
    """
    faults = []
    for theme, axe_size in AXE_SIZES.items():
        page.emulate_media(color_scheme=theme)
        for size in (DESKTOP, PHONE):
            page.set_viewport_size(size)
            watch.wait_until_quiet(page)
            page.evaluate(FINISH_TRANSITIONS)
            found = []
            if (excess := _excess_width(page)) > 0:
                found.append(f"scrolls sideways by {excess} pixels")
            if size is axe_size:
                found += find_violations(page)
            where = f"{name}-{size['width']}-{theme}"
            if found or PICTURES:
                take_picture(page, output / f"{where}.png")
            faults += [f"{where}: {fault}" for fault in found]
    watch.check()
    if faults:
        pytest.fail("\n".join(dict.fromkeys(faults)))


def take_picture(page: Page, path: Path) -> None:
    """Write a picture of the whole page, with its animations at their end."""
    page.screenshot(path=path, full_page=True, animations="disabled")


def _excess_width(page: Page) -> int:
    """Return by how many pixels a page is wider than its window."""
    return int(page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth"))
