"""What is shown while a batch runs."""

from __future__ import annotations

from io import StringIO

import pytest

from cli.batch.progress import ProgressBar
from cli.batch.responses import BatchView
from cli.batch.tables import duration
from tests.support.http.failing_service import batch


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


class ClosedTerminal(Terminal):
    def write(self, text: str) -> int:
        raise OSError("gone")


RUNNING = BatchView.read(batch("running", 200, queued=97, running=3, succeeded=98, failed=2))


def test_a_terminal_gets_a_bar_with_failures_rate_and_time_left() -> None:
    stream = Terminal()
    meter = ProgressBar(stream=stream)

    meter.batch(RUNNING)
    meter.say("done")

    assert "running  50%|" in stream.getvalue()
    assert "| 100/200 lines, 2 without result, 2 lines/s, 1 min 30 s left" in stream.getvalue()
    assert stream.getvalue().rsplit("\r", 1)[1].strip() == "done"


def test_a_log_gets_lines_that_become_rarer() -> None:
    now = [0.0]
    stream = StringIO()
    meter = ProgressBar(stream=stream, clock=lambda: now[0])
    hours = 24

    for second in range(hours * 3600):
        now[0] = second
        meter.batch(RUNNING)

    lines = stream.getvalue().splitlines()
    assert set(lines) == {
        "batch_1 running: 100/200 lines, 2 without result, 2 lines/s, 1 min 30 s left"
    }
    assert 100 < len(lines) < 500


def test_a_terminal_that_is_gone_is_no_reason_to_fail() -> None:
    meter = ProgressBar(stream=ClosedTerminal())

    meter.batch(RUNNING)
    meter.say("done")


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
def test_times_are_said_as_people_do(seconds: float, text: str) -> None:
    assert duration(seconds) == text
