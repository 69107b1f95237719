"""The progress that `bountycoder up` prints while it starts."""

from __future__ import annotations

from io import StringIO

from cli.up.progress import StartProgress
from tests.support.cli.terminal import ClosedTerminal, Terminal


def test_a_file_gets_one_plain_line_for_each_step() -> None:
    stream = StringIO()
    progress = StartProgress(stream)

    progress.step("starting")
    progress.step("starting")
    progress.tick()
    progress.step("making", 35)
    progress.say("ready")

    assert stream.getvalue() == "starting\nmaking (35%)\nready\n"


def test_a_terminal_gets_a_bar_that_the_next_line_replaces() -> None:
    stream = Terminal()
    progress = StartProgress(stream)

    progress.step("making", 50)
    progress.say("ready")

    lines = stream.getvalue().split("\r")
    assert "[############............]  50% making" in lines[1]
    assert lines[-1] == "\x1b[Kready\n"


def test_a_closed_terminal_is_no_error() -> None:
    progress = StartProgress(ClosedTerminal())

    progress.step("starting")
    progress.say("ready")
