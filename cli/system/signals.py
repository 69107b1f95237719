"""Stop signals such as Ctrl-C: the first requests an orderly stop, the second an immediate one."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(Exception):
    """A stop signal arrived during a wait."""


class Interruption:
    """Count stop signals while entered; only `check` interrupts."""

    def __init__(self) -> None:
        self._count = 0
        self._earlier: dict[signal.Signals, Callable[..., Any] | int | None] = {}

    def __enter__(self) -> Interruption:
        for number in STOP_SIGNALS:
            # `nohup` makes the program ignore SIGHUP: respect that.
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue
            self._earlier[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise `StopRequested` if a stop signal has arrived."""
        if self._count:
            raise StopRequested

    def is_urgent(self) -> bool:
        """Return whether two or more stop signals have arrived."""
        return self._count > 1

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
