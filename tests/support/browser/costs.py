"""The summary of a run: the cost of each page that a browser opened."""

from __future__ import annotations

import pytest

from tests.support.browser.weight import OUTPUT, table_of


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the cost of each page that a browser checked, in any process."""
    reports = [report for group in terminalreporter.stats.values() for report in group]
    properties = [p for report in reports for p in getattr(report, "user_properties", ())]
    table = table_of(properties)
    if table:
        OUTPUT.mkdir(parents=True, exist_ok=True)
        (OUTPUT / "costs.txt").write_text(table)
        terminalreporter.section("cost of pages")
        terminalreporter.write(table)
        terminalreporter.line(f"pictures (of failures, or of all with PICTURES=1): {OUTPUT}")
