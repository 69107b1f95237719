"""Show progress: a bar on a terminal, occasional lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

from cli.batch.responses import BatchView
from cli.batch.tables import duration

BAR = "{desc} {percentage:3.0f}%|{bar:24}| {n_fmt}/{total_fmt} {unit}{postfix}"
REDRAW_SECONDS = 0.1
#: Lines in a log become rarer, up to the longest pause.
FIRST_LINE_SECONDS = 10.0
LONGEST_LINE_SECONDS = 300.0
LINES_AN_ELAPSED_TIME = 20
MEBIBYTE = 1024 * 1024


class ProgressBar:
    """Write to standard error, so that output can be piped. Ignores a terminal that has closed."""

    def __init__(
        self,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._clock = clock
        self._began = clock()
        self._next_line_at = self._began + FIRST_LINE_SECONDS
        self._drawn_at = 0.0
        self._bar: Any = None

    def say(self, text: str) -> None:
        """Write a permanent line."""
        self.clear()
        with suppress(OSError):
            print(text, file=self._stream, flush=True)

    def batch(self, batch: BatchView) -> None:
        """Show the progress of a batch."""
        notes = [f"{batch.lost} without result"] if batch.lost else []
        if not batch.is_final:
            if batch.lines_per_second:
                notes.append(f"{batch.lines_per_second:.3g} lines/s")
            if batch.estimated_seconds is not None:
                notes.append(f"{duration(batch.estimated_seconds)} left")
        # A terminal shows the id above; in the bar it would leave no room for the numbers.
        label = batch.status if self._is_terminal else f"{batch.id} {batch.status}"
        self.show(label, batch.ended, batch.total, "lines", ", ".join(notes))

    def bytes(self, label: str, done: int, total: int) -> None:
        """Show how many bytes of a file are sent."""
        self.show(label, done // MEBIBYTE, max(1, total // MEBIBYTE), "MiB")

    def show(self, label: str, done: int, total: int, unit: str, more: str = "") -> None:
        """Show that `done` of `total` are done; cheap to call often."""
        now = self._clock()
        if self._is_terminal:
            if self._bar is None or now - self._drawn_at >= REDRAW_SECONDS or done >= total:
                self._drawn_at = now
                self._draw(label, done, total, unit, more)
        elif now >= self._next_line_at:
            pause = max(FIRST_LINE_SECONDS, (now - self._began) / LINES_AN_ELAPSED_TIME)
            self._next_line_at = now + min(pause, LONGEST_LINE_SECONDS)
            self._write_line(label, done, total, unit, more)

    def clear(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            with suppress(OSError):
                self._bar.close()
            self._bar = None

    def _draw(self, label: str, done: int, total: int, unit: str, more: str) -> None:
        with suppress(OSError):
            if self._bar is None:
                self._bar = _new_bar(self._stream)
            bar = self._bar
            bar.desc, bar.n, bar.total, bar.unit, bar.postfix = label, done, total, unit, more
            bar.refresh()

    def _write_line(self, label: str, done: int, total: int, unit: str, more: str) -> None:
        with suppress(OSError):
            end = f", {more}" if more else ""
            print(f"{label}: {done}/{total} {unit}{end}", file=self._stream, flush=True)


def _new_bar(stream: TextIO) -> Any:
    # Imported here: it reads the environment at import.
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # no background thread: we redraw the bar
    return tqdm(file=stream, leave=False, dynamic_ncols=True, bar_format=BAR, total=1)
