"""The order of the tests where several processes share them: the longest modules first.

pytest-xdist gives each process whole modules in the order of the collection. A long module that
came last would leave the other processes idle. `durations.json` holds the seconds of each module;
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


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the modules by their recorded seconds; a module's own tests keep their order."""
    if not hasattr(config, "workerinput"):
        return
    seconds: dict[str, float] = json.loads(DURATIONS.read_text())
    items.sort(
        key=lambda item: (-seconds.get(_module(item.nodeid), UNKNOWN_SECONDS), _module(item.nodeid))
    )


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
