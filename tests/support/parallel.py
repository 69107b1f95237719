"""The groups of tests that one of several processes runs, and their order: the longest first.

pytest-xdist gives each process whole groups in the order of the collection. A long group that came
last would leave the other processes idle. `durations.json` holds the seconds of each module;
`RECORD_DURATIONS=1 make test system-test` writes it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

DURATIONS = Path(__file__).with_name("durations.json")
#: Assumed for a module that was not recorded.
UNKNOWN_SECONDS = 5.0
#: Services of few modules. One process runs these modules, so that one service starts.
SHARED_FIXTURES = ("_slow_service", "_service_without_workers")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Group the tests by module or service; sort the groups by their recorded seconds."""
    if not hasattr(config, "workerinput"):
        return
    recorded: dict[str, float] = json.loads(DURATIONS.read_text())
    groups = _groups(items)
    seconds: Counter[str] = Counter()
    for module, group in groups.items():
        seconds[group] += recorded.get(module, UNKNOWN_SECONDS)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(groups[_module(item.nodeid)]))
    items.sort(key=lambda item: _place(item, groups, seconds))


def _groups(items: list[pytest.Item]) -> dict[str, str]:
    """Return the group of each module: the service that its tests share, or the module itself."""
    groups = {}
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        shared = [name for name in SHARED_FIXTURES if name in fixtures]
        module = _module(item.nodeid)
        groups[module] = shared[0] if shared else groups.get(module, module)
    return groups


def _place(
    item: pytest.Item, groups: dict[str, str], seconds: Counter[str]
) -> tuple[float, str, str]:
    module = _module(item.nodeid)
    return -seconds[groups[module]], groups[module], module


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Record the seconds of each module, if `RECORD_DURATIONS` is set."""
    if not os.environ.get("RECORD_DURATIONS"):
        return
    known: dict[str, float] = json.loads(DURATIONS.read_text())
    measured: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if hasattr(report, "duration"):
                measured[_module(report.nodeid)] += report.duration
    known |= {module: round(seconds, 1) for module, seconds in measured.items()}
    DURATIONS.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")


def _module(nodeid: str) -> str:
    return nodeid.partition("::")[0]
