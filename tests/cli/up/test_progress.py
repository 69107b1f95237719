"""What the user sees while things start."""

from __future__ import annotations

from io import StringIO

from cli.up.progress import StartProgress


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


class ClosedTerminal(Terminal):
    def write(self, text: str) -> int:
        raise OSError("gone")


def test_a_file_gets_one_plain_line_a_step() -> None:
    stream = StringIO()
    progress = StartProgress(stream)

    progress.step("starting")
    progress.step("starting")
    progress.tick()
    progress.step("making", 35)
    progress.say("ready")

    assert stream.getvalue() == "starting\nmaking (35%)\nready\n"


def test_a_terminal_gets_a_bar_that_makes_way_for_what_stays() -> None:
    stream = Terminal()
    progress = StartProgress(stream)

    progress.step("making", 50)
    progress.say("ready")

    lines = stream.getvalue().split("\r")
    assert "[############............]  50% making" in lines[1]
    assert lines[-1] == "\x1b[Kready\n"


def test_a_terminal_that_is_gone_is_no_reason_to_fail() -> None:
    progress = StartProgress(ClosedTerminal())

    progress.step("starting")
    progress.say("ready")
