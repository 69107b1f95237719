"""The progress of `bountycoder up`: plain lines, or one animated line on a terminal."""

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


class StartProgress:
    """Show one step at a time. Ignores a terminal that has closed."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._is_terminal = self._stream.isatty()
        self._step = ""
        self._percent: int | None = None
        self._drawn_at = 0.0
        self._frame = 0

    def step(self, text: str, percent: int | None = None) -> None:
        """Show the present step, and its percentage if known."""
        if (text, percent) == (self._step, self._percent):
            return
        self._step, self._percent = text, percent
        if self._is_terminal:
            self._draw()
        else:
            self._write(f"{text} ({percent}%)\n" if percent is not None else f"{text}\n")

    def tick(self) -> None:
        """Redraw the animation if it is due; cheap to call often."""
        is_due = time.monotonic() - self._drawn_at > REDRAW_SECONDS
        if self._is_terminal and self._step and is_due:
            self._frame += 1
            self._draw()

    def say(self, text: str) -> None:
        """Write permanent lines."""
        self.clear()
        self._write(f"{text}\n")

    def clear(self) -> None:
        """Remove the animated line."""
        self._step = ""
        if self._is_terminal:
            self._write(CLEAR_LINE)

    def _draw(self) -> None:
        self._drawn_at = time.monotonic()
        mark = SPINNER[self._frame % len(SPINNER)]
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
