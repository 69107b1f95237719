"""Selects the tests of a phase of `make test` or `make system-test`.

The system tests are those of whole installations and those of pages in a browser.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.paths import ROOT

SYSTEM = ROOT / "tests" / "system"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what has no test of the phase: importing all modules takes 20 seconds."""
    phase = config.option.markexpr
    if "not system" in phase and collection_path == SYSTEM:
        return True
    if phase.startswith("alone") and collection_path.is_file():
        return "pytest.mark.alone" not in collection_path.read_text() or None
    return None


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests in `tests/system`, and those that use the browser."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if item.path.is_relative_to(SYSTEM) or "chromium" in fixtures:
            item.add_marker(pytest.mark.system)
