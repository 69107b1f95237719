"""The progress that `bountycoder batch` prints while a batch runs."""

from __future__ import annotations

from io import StringIO

import pytest

from cli.batch.progress import ProgressBar
from cli.batch.responses import BatchView
from cli.batch.tables import duration
from tests.support.cli.terminal import ClosedTerminal, Terminal
from tests.support.http.failing_service import batch

RUNNING = BatchView.read(batch("running", 200, queued=97, running=3, succeeded=98, failed=2))


def test_a_terminal_gets_a_bar_with_failures_rate_and_time_left() -> None:
    stream = Terminal()
    progress = ProgressBar(stream=stream)

    progress.batch(RUNNING)
    progress.say("done")

    assert "running  50%|" in stream.getvalue()
    assert "| 100/200 lines, 2 without result, 2 lines/s, 1 min 30 s left" in stream.getvalue()
    assert stream.getvalue().rsplit("\r", 1)[1].strip() == "done"


def test_a_log_gets_lines_that_become_rarer() -> None:
    now = [0.0]
    stream = StringIO()
    progress = ProgressBar(stream=stream, clock=lambda: now[0])
    hours = 24

    for second in range(hours * 3600):
        now[0] = second
        progress.batch(RUNNING)

    lines = stream.getvalue().splitlines()
    assert set(lines) == {
        "batch_1 running: 100/200 lines, 2 without result, 2 lines/s, 1 min 30 s left"
    }
    assert 100 < len(lines) < 500


def test_a_closed_terminal_is_no_error() -> None:
    progress = ProgressBar(stream=ClosedTerminal())

    progress.batch(RUNNING)
    progress.say("done")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (95, "1 min 35 s"),
        (700, "11 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_are_rounded_to_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
