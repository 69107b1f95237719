"""Start, run, await, end and find processes in tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import requests

from tests.support.paths import ROOT
from tests.support.polling import wait_until

#: The command `bountycoder`.
CLI = (sys.executable, "-m", "cli.main")
CALL_SECONDS = 90.0
RUN_SECONDS = 120.0
STOP_SECONDS = 20.0
DEADLINE_SECONDS = 30.0


def bare_environment() -> dict[str, str]:
    """Return the environment variables of a program besides its settings."""
    policy = os.environ.get("OMP_WAIT_POLICY")
    return {"PATH": "/usr/bin:/bin", **({"OMP_WAIT_POLICY": policy} if policy else {})}


def start(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str],
    directory: Path = ROOT,
    own_session: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a program that writes its output to `log`.

    Args:
        own_session: whether signals of this process's terminal do not reach it.
    """
    with open(log, "wb") as output:
        return subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=own_session,
        )


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    directory: Path = ROOT,
    seconds: float = RUN_SECONDS,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return its exit code and output."""
    return subprocess.run(
        command,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def responds(url: str) -> bool:
    """Return whether a program responds with success; it may not listen yet."""
    try:
        return requests.get(url, timeout=CALL_SECONDS).ok
    except requests.ConnectionError:
        return False


def end(
    program: subprocess.Popen[bytes],
    number: signal.Signals = signal.SIGTERM,
    seconds: float = DEADLINE_SECONDS,
) -> int:
    """End a program by a signal, if it runs, and return its exit code."""
    if program.poll() is None:
        program.send_signal(number)
    return program.wait(seconds)


def kill_with_children(program: subprocess.Popen[bytes]) -> None:
    """Kill a program, if it runs, and the processes that it started."""
    if program.poll() is not None:
        return
    children = psutil.Process(program.pid).children()
    program.kill()  # first: it would replace those that end
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    program.wait(STOP_SECONDS)


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
    """Wait for all to end and return whether they did; kill those that still run."""
    try:
        wait_until(lambda: not any(is_running(process) for process in processes))
    except AssertionError:
        return False
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
    return True
