"""Keeps the parts of a running service: restarts those that end, and stops all in order."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby

from cli.system.child_process import Child
from cli.system.guardian import Guardian
from core.errors import LauncherError

MAX_DEATHS = 5
DEATHS_WITHIN_SECONDS = 60.0
FIRST_RESTART_SECONDS = 0.5


@dataclass(slots=True)
class Part:
    """A program to keep running.

    Attributes:
        start: starts the program and returns; readiness is somebody else's matter.
        stage: parts of the same stage stop together, lower stages first.
        ends_itself: it shuts down cleanly when we are killed, so the guardian leaves it alone.
    """

    name: str
    start: Callable[[], Child]
    stop_signal: signal.Signals
    stop_seconds: float
    stage: int
    ends_itself: bool = False
    child: Child | None = None
    deaths: list[float] = field(default_factory=list)
    restart_at: float | None = None


class Supervisor:
    """The parts, in the order in which they were added."""

    def __init__(self, *, say: Callable[[str], None], changed: Callable[[], None]) -> None:
        """Take what prints a line, and what is called when a process came or went."""
        self.parts: list[Part] = []
        self.guardian = Guardian()
        self._say = say
        self._changed = changed

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run, by name."""
        pids = {part.name: part.child.pid for part in self.parts if part.child is not None}
        if self.guardian.pid is not None:
            pids["guardian"] = self.guardian.pid
        return pids

    def add(self, part: Part) -> None:
        """Keep a part; start it unless it runs."""
        self.parts.append(part)
        if part.child is None:
            part.child = part.start()
        self._note_change()

    def check(self) -> None:
        """Restart what ended, after a pause that grows.

        Raises:
            LauncherError: a part ends again and again.
        """
        now = time.monotonic()
        for part in self.parts:
            if part.child is not None and not part.child.is_alive():
                self._note_death(part, part.child, now)
            elif part.restart_at is not None and now >= part.restart_at:
                part.restart_at = None
                part.child = part.start()
                self._note_change()
        if not self.guardian.is_alive():
            self._note_change()

    def stop(self, *, is_urgent: Callable[[], bool]) -> None:
        """Stop everything, stage by stage; at once when it is urgent."""
        by_stage = sorted(self.parts, key=lambda part: part.stage)
        for _, stage in groupby(by_stage, key=lambda part: part.stage):
            parts = [part for part in stage if part.child is not None]
            for part in parts:
                if part.child is not None:
                    part.child.send(part.stop_signal)
            for part in parts:
                if part.child is not None:
                    part.child.end(part.stop_seconds, is_urgent=is_urgent)
                    part.child = None
        self.parts.clear()
        self.guardian.close()

    def _note_death(self, part: Part, child: Child, now: float) -> None:
        child.kill()  # what it forked may still hold its port
        part.child = None
        part.deaths = [at for at in part.deaths if now - at < DEATHS_WITHIN_SECONDS] + [now]
        how = f"{part.name} {_how_it_ended(child)} (log: {child.log})"
        if len(part.deaths) >= MAX_DEATHS:
            raise LauncherError(
                f"{how}, {MAX_DEATHS} times within {DEATHS_WITHIN_SECONDS:.0f} s: giving up"
            )
        pause = FIRST_RESTART_SECONDS * 2 ** (len(part.deaths) - 1)
        part.restart_at = now + pause
        self._say(f"{how}: restarting it in {pause:g} s")
        self._note_change()

    def _note_change(self) -> None:
        guarded = (part for part in self.parts if not part.ends_itself)
        self.guardian.watch(part.child.pid for part in guarded if part.child is not None)
        self._changed()


def _how_it_ended(child: Child) -> str:
    code = child.process.returncode
    if code is not None and code < 0:
        return f"was killed by signal {-code} ({signal.strsignal(-code)})"
    return f"ended with exit code {code}: {child.last_words()}"
