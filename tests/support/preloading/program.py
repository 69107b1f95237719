"""Start a program of the service without the time of its imports: `fork_server.py` has them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from select import POLLIN, poll
from socket import AF_UNIX, SOCK_SEQPACKET, send_fds, socket, socketpair

from core.config.settings import EngineKind
from tests.support.paths import ROOT
from tests.support.preloading.fork_server import NUMBER
from tests.support.processes import bare_environment

#: The longest time for a fork server to import its modules and start a program.
START_SECONDS = 60.0


class PreloadedProgram(subprocess.Popen[bytes]):
    """A program that a fork server started, used as if this process had started it."""

    def __init__(self, arguments: Sequence[str], reports: int) -> None:
        # Not Popen's own constructor, which would start a process.
        self.args = arguments
        self.stdin = self.stdout = self.stderr = None
        self._child_created = False  # Popen need not wait for it
        self._reports = reports
        pid = self._next_report(START_SECONDS)
        assert pid is not None, "the fork server did not start the program in time"
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._returncode_within(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._returncode_within(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def _returncode_within(self, seconds: float | None) -> int | None:
        if self.returncode is None:
            status = self._next_report(seconds)
            if status is not None:
                os.close(self._reports)
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def _next_report(self, seconds: float | None) -> int | None:
        waiting = poll()
        waiting.register(self._reports, POLLIN)
        if not waiting.poll(None if seconds is None else seconds * 1000):
            return None
        report = os.read(self._reports, NUMBER.size)
        assert report, "the fork server ended"
        return int(NUMBER.unpack(report)[0])


def program_kind(program: str, engine: EngineKind) -> str | None:
    """Return which `MODULES` of the fork server a program needs; `None` where it has none."""
    if program == "worker":
        return "echo worker" if engine is EngineKind.ECHO else "worker"
    return "web" if program in ("api", "admin-ui") else None


def start_preloaded(
    kind: str,
    arguments: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str],
) -> PreloadedProgram:
    """Start the command `bountycoder` with these arguments in the repository's root.

    Args:
        kind: as `program_kind` says.
        log: gets the program's output.
    """
    _, requests = _fork_server(kind)
    request = json.dumps({"arguments": arguments, "environment": environment}).encode()
    reports, program_reports = os.pipe()
    try:
        with open(log, "wb") as output:
            send_fds(requests, [request], [output.fileno(), program_reports])
    finally:
        os.close(program_reports)
    return PreloadedProgram(arguments, reports)


@cache
def _fork_server(kind: str) -> tuple[subprocess.Popen[bytes], socket]:
    """Start the fork server of a kind, which ends with this process; return its socket too."""
    requests, end = socketpair(AF_UNIX, SOCK_SEQPACKET)
    with end:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.preloading.fork_server", kind, str(end.fileno())],
            cwd=ROOT,
            env=bare_environment(),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a terminal's Ctrl-C reaches the tests, which end the programs
            pass_fds=[end.fileno()],
        )
    return process, requests
