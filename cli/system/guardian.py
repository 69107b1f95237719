"""A small process that kills the processes of a `bountycoder up` that died.

The kernel's parent-death signal reaches only direct children. Processes that those forked
(gunicorn's, dramatiq's) would survive. This file also runs as a program. It imports nothing of
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
    """The process's handle in `bountycoder up`, which sends it the groups to kill."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def watch(self, groups: Iterable[int]) -> None:
        """Replace the list of process groups to kill when this process dies."""
        line = (" ".join(map(str, groups)) + "\n").encode()
        if not self.is_alive():
            self._close_pipe()
            self._process = _spawn()
        process = self._process
        assert process is not None and process.stdin is not None
        # If the guardian dies at this moment, the next check starts another.
        with suppress(BrokenPipeError):
            process.stdin.write(line)
            process.stdin.flush()

    def close(self) -> None:
        """End the guardian without killing any group."""
        if self.is_alive():
            self.watch([])
        self._close_pipe()

    def _close_pipe(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)


def guard(lines: IO[str]) -> None:
    """Read lists of process groups until the pipe closes, then kill the groups of the last list."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    groups: list[int] = []
    for line in lines:
        if line.endswith("\n"):
            groups = [int(word) for word in line.split()]
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


def _spawn() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


if __name__ == "__main__":
    guard(sys.stdin)
