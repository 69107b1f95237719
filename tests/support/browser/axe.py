"""What keeps people from using a page, as axe-core finds it."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from playwright.sync_api import Page

SERIOUS = {"moderate", "serious", "critical"}
#: Only this file of the package is used: its own runner gives it to the page for each run anew.
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


def find_barriers(page: Page) -> list[str]:
    """Return the serious ones of a page as it is now, one line for each element."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE)
    found = page.evaluate("() => axe.run({resultTypes: ['violations']})")
    return [
        f"{violation['id']}: {_place(node)}: {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in SERIOUS
        for node in violation["nodes"]
    ]


def _place(node: dict[str, Any]) -> str:
    return " ".join(map(str, node["target"]))
