"""Ctrl-C and its kin: the first asks for an orderly stop, the second for one at once."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """A stop was asked for while something was being waited for."""


class Interruption:
    """Notes stop signals while it is entered; nothing is interrupted except where `check` is."""

    def __init__(self) -> None:
        self._count = 0
        self._earlier: dict[signal.Signals, Callable[..., Any] | int | None] = {}

    def __enter__(self) -> Interruption:
        for number in STOP_SIGNALS:
            # `nohup` has us ignore this one, and means it.
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue
            self._earlier[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise `Stopped` if a stop was asked for."""
        if self._count:
            raise Stopped

    def is_urgent(self) -> bool:
        """Say whether it was asked for twice."""
        return self._count > 1

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
