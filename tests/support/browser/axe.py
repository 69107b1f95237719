"""Accessibility faults of a page, found by axe-core."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from playwright.sync_api import Page

SERIOUS = {"moderate", "serious", "critical"}
#: Only this file of the package is used: its own runner loads it into the page for each run.
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


def find_violations(page: Page) -> list[str]:
    """Return the serious faults of the current page, one line for each element."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE)
    found = page.evaluate("() => axe.run({resultTypes: ['violations']})")
    return [
        f"{violation['id']}: {_selector(node)}: {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in SERIOUS
        for node in violation["nodes"]
    ]


def _selector(node: dict[str, Any]) -> str:
    return " ".join(map(str, node["target"]))
