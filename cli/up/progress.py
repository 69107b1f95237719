"""What `bountycoder up` shows while it works: plain lines, or one moving line on a terminal."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import suppress
from typing import TextIO

SPINNER = "|/-\\"
BAR_WIDTH = 24
REDRAW_SECONDS = 0.1
CLEAR_LINE = "\r\x1b[K"


class Progress:
    """Shows one step at a time. A terminal that is gone is no reason to fail."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._is_terminal = self._stream.isatty()
        self._step = ""
        self._percent: int | None = None
        self._drawn_at = 0.0
        self._turns = 0

    def step(self, text: str, percent: int | None = None) -> None:
        """Say what is being done now, and how much of it is done if that is known."""
        if (text, percent) == (self._step, self._percent):
            return
        self._step, self._percent = text, percent
        if self._is_terminal:
            self._draw()
        else:
            self._write(f"{text} ({percent}%)\n" if percent is not None else f"{text}\n")

    def tick(self) -> None:
        """Show that we are alive; call it as often as you like."""
        is_due = time.monotonic() - self._drawn_at > REDRAW_SECONDS
        if self._is_terminal and self._step and is_due:
            self._turns += 1
            self._draw()

    def say(self, text: str) -> None:
        """Write lines that stay."""
        self.clear()
        self._write(f"{text}\n")

    def clear(self) -> None:
        """Take the moving line away."""
        self._step = ""
        if self._is_terminal:
            self._write(CLEAR_LINE)

    def _draw(self) -> None:
        self._drawn_at = time.monotonic()
        mark = SPINNER[self._turns % len(SPINNER)]
        bar = ""
        if self._percent is not None:
            done = BAR_WIDTH * self._percent // 100
            bar = f"[{'#' * done}{'.' * (BAR_WIDTH - done)}] {self._percent:3d}% "
        line = f"{mark} {bar}{self._step}"
        self._write(CLEAR_LINE + line[: shutil.get_terminal_size().columns - 1])

    def _write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)
            self._stream.flush()
