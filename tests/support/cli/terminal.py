"""Streams that are terminals, for tests of what programs print while they run."""

from __future__ import annotations

from io import StringIO


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


class ClosedTerminal(Terminal):
    """A terminal whose window is gone."""

    def write(self, text: str) -> int:
        raise OSError("gone")
