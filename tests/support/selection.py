"""Selects the tests of `make system-test`: whole installations, and pages in a browser."""

from __future__ import annotations

import pytest

from tests.support.paths import ROOT

SYSTEM = ROOT / "tests" / "system"


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests in `tests/system`, and those that use the browser."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if item.path.is_relative_to(SYSTEM) or "chromium" in fixtures:
            item.add_marker(pytest.mark.system)
