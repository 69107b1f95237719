"""One round of `python -m tests.system.topology`, with few clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.monitoring.programs import program
from tests.system.topology.client import KINDS
from tests.system.topology.run import run_rounds


@pytest.mark.alone  # it bounds for how long requests are refused
def test_every_part_is_replaced_and_nothing_is_lost_or_done_twice(
    model_dir: Path, tmp_path: Path
) -> None:
    program("prometheus")

    report = run_rounds(tmp_path, model_dir, rounds=1, clients=1)

    assert report.faults == [], report.text()
    assert len(report.replaced) == 10
    assert {done.kind for done in report.records.done} == set(KINDS)
