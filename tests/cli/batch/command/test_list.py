"""`bountycoder batch list` fetches all pages."""

from __future__ import annotations

import pytest

from tests.support.cli.batch_command import run
from tests.support.http.failing_service import batch, failing, responds


def test_a_list_is_fetched_page_by_page(capsys: pytest.CaptureFixture[str]) -> None:
    pages = [
        responds(200, {"data": [batch()] * 100, "nextCursor": "batch_x"}),
        responds(200, {"data": [batch("running", queued=3)], "nextCursor": None}),
    ]
    with failing(*pages) as service:
        code = run(service, "list", "--limit", "150", "--status", "running")

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert service.paths == [
        "?status=running&limit=100",
        "?status=running&limit=50&after=batch_x",
    ]
    assert len(lines) == 102
    assert lines[-1] == "batch_1  running    0/3   0     2026-11-25T12:00:00"
