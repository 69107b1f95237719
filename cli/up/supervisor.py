"""Supervise the processes of a running service: restart those that end, and stop all in order."""

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
class SupervisedProcess:
    """A program to keep running.

    Attributes:
        start: starts the program and returns without waiting for readiness.
        stage: processes of one stage stop together, lower stages first.
        ends_itself: the program shuts down cleanly when this process dies: the guardian does
            not kill it.
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
    """The processes, in the order in which they were added."""

    def __init__(self, *, say: Callable[[str], None], changed: Callable[[], None]) -> None:
        """Create a supervisor without processes.

        Args:
            say: prints a line.
            changed: called when a process starts or ends.
        """
        self.processes: list[SupervisedProcess] = []
        self.guardian = Guardian()
        self._say = say
        self._changed = changed

    @property
    def pids(self) -> dict[str, int]:
        """The ids of the running processes, by name."""
        pids = {
            process.name: process.child.pid
            for process in self.processes
            if process.child is not None
        }
        if self.guardian.pid is not None:
            pids["guardian"] = self.guardian.pid
        return pids

    def add(self, process: SupervisedProcess) -> None:
        """Supervise a process; start it unless it runs."""
        self.processes.append(process)
        if process.child is None:
            process.child = process.start()
        self._note_change()

    def check(self) -> None:
        """Restart processes that ended, after a growing pause.

        Raises:
            LauncherError: a process ended `MAX_DEATHS` times within `DEATHS_WITHIN_SECONDS`.
        """
        now = time.monotonic()
        for process in self.processes:
            if process.child is not None and not process.child.is_alive():
                self._note_death(process, process.child, now)
            elif process.restart_at is not None and now >= process.restart_at:
                process.restart_at = None
                process.child = process.start()
                self._note_change()
        if not self.guardian.is_alive():
            self._note_change()

    def stop(self, *, is_urgent: Callable[[], bool]) -> None:
        """Stop all processes, stage by stage; kill them as soon as `is_urgent()` is true."""
        by_stage = sorted(self.processes, key=lambda process: process.stage)
        for _, stage in groupby(by_stage, key=lambda process: process.stage):
            processes = [process for process in stage if process.child is not None]
            for process in processes:
                if process.child is not None:
                    process.child.send(process.stop_signal)
            for process in processes:
                if process.child is not None:
                    process.child.end(process.stop_seconds, is_urgent=is_urgent)
                    process.child = None
        self.processes.clear()
        self.guardian.close()

    def _note_death(self, process: SupervisedProcess, child: Child, now: float) -> None:
        child.kill()  # processes that it forked may still hold its port
        process.child = None
        process.deaths = [at for at in process.deaths if now - at < DEATHS_WITHIN_SECONDS] + [now]
        message = f"{process.name} {_how_it_ended(child)} (log: {child.log})"
        if len(process.deaths) >= MAX_DEATHS:
            raise LauncherError(
                f"{message}, {MAX_DEATHS} times within {DEATHS_WITHIN_SECONDS:.0f} s: giving up"
            )
        pause = FIRST_RESTART_SECONDS * 2 ** (len(process.deaths) - 1)
        process.restart_at = now + pause
        self._say(f"{message}: restarting it in {pause:g} s")
        self._note_change()

    def _note_change(self) -> None:
        guarded = (process for process in self.processes if not process.ends_itself)
        self.guardian.watch(process.child.pid for process in guarded if process.child is not None)
        self._changed()


def _how_it_ended(child: Child) -> str:
    code = child.process.returncode
    if code is not None and code < 0:
        return f"was killed by signal {-code} ({signal.strsignal(-code)})"
    return f"ended with exit code {code}: {child.last_log_line()}"
