"""Start, kill and find processes in tests."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.support.paths import ROOT
from tests.support.polling import wait_until

DEADLINE_SECONDS = 30.0


@contextmanager
def python(code: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Run `code` in a process that can import the product; kill it at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with process:
            try:
                yield process
            finally:
                process.kill()
    finally:
        process.wait(DEADLINE_SECONDS)


def printed_ids(process: subprocess.Popen[str]) -> list[int]:
    """Return the process ids that the process prints in one line."""
    assert process.stdout is not None
    ids = [int(word) for word in process.stdout.readline().split()]
    assert ids, "the process ended without output"
    return ids


def with_descendants(pids: Sequence[int]) -> set[psutil.Process]:
    """Return these processes and all their descendants."""
    parents = [psutil.Process(pid) for pid in pids]
    return {*parents, *(child for parent in parents for child in parent.children(recursive=True))}


def is_running(process: psutil.Process) -> bool:
    """Return whether a process still runs; zombies do not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def all_end(processes: set[psutil.Process]) -> bool:
    """Wait for the end of all; kill those that stay, so that nothing outlives a test."""
    try:
        wait_until(lambda: not any(is_running(process) for process in processes))
    except AssertionError:
        return False
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
    return True
