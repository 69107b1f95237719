"""A small process that outlives `bountycoder up` by a moment and kills what it left behind.

The kernel's parent-death signal reaches only our direct children: the processes that they forked
(of gunicorn, of dramatiq) would stay. This file also runs as a program, with nothing imported from
the product, so that it starts in milliseconds and needs little memory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import IO

END_SECONDS = 5.0


class Guardian:
    """The side of `bountycoder up`: tells the process which groups to kill if we die."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def watch(self, groups: Iterable[int]) -> None:
        """Replace the list of process groups that must not outlive us."""
        line = (" ".join(map(str, groups)) + "\n").encode()
        if not self.is_alive():
            self._forget()
            self._process = _started()
        process = self._process
        assert process is not None and process.stdin is not None
        # If it is killed just now, the next look starts another.
        with suppress(BrokenPipeError):
            process.stdin.write(line)
            process.stdin.flush()

    def close(self) -> None:
        """End the process; it kills nothing."""
        if self.is_alive():
            self.watch([])
        self._forget()

    def _forget(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)


def guard(lines: IO[str]) -> None:
    """Read lists of process groups until the writer is gone, then kill those of the last one."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    groups: list[int] = []
    for line in lines:
        if line.endswith("\n"):
            groups = [int(word) for word in line.split()]
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


def _started() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


if __name__ == "__main__":
    guard(sys.stdin)
