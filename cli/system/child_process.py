"""A child process that ends with us, writes to its own log and is stopped within a bounded time.

The kernel's parent-death signal belongs to the thread that forks: start children from the main one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from core.errors import LauncherError

POLL_SECONDS = 0.02
KILL_SECONDS = 10.0
LOG_TAIL_BYTES = 8192
PR_SET_PDEATHSIG = 1

#: Called between the looks of every wait; it may raise to give the wait up.
Tick = Callable[[], None]


class WaitedTooLong(LauncherError):
    """Something did not happen within its time."""


def no_tick() -> None:
    """Do nothing between two looks."""


class Child:
    """A process of ours, the leader of its own session."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    @classmethod
    def start(
        cls,
        name: str,
        argv: Sequence[str],
        *,
        log_dir: Path,
        death_signal: signal.Signals = signal.SIGKILL,
        environment: Mapping[str, str] | None = None,
        prepare: Callable[[], None] | None = None,
        directory: Path | None = None,
        keep_fd: int | None = None,
        stdin: bytes = b"",
        stdout: int | None = None,
    ) -> Child:
        """Start `argv` with its output in `<log_dir>/<name>.log`.

        Args:
            death_signal: what the kernel sends the child when we die.
            prepare: runs in the child before the program does, to give up rights.
            keep_fd: a descriptor that the child inherits.
            stdin: what the child reads; small enough for a pipe's buffer.
            stdout: `subprocess.PIPE` to read the child's output instead of logging it.

        Raises:
            LauncherError: the program cannot be run.
        """
        log = _rotated_log(log_dir, name)
        with open(log, "wb") as output:
            try:
                process = subprocess.Popen(
                    list(argv),
                    stdin=subprocess.PIPE,
                    stdout=output if stdout is None else stdout,
                    stderr=output,
                    env=environment,
                    cwd=directory,
                    pass_fds=() if keep_fd is None else (keep_fd,),
                    start_new_session=True,
                    preexec_fn=_before_exec(death_signal, prepare),
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise LauncherError(f"cannot run {argv[0]} for {name}: {error}") from error
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write(stdin)
            process.stdin.close()
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_alive(self) -> bool:
        """Say whether the process still runs; one that ended is reaped."""
        return self.process.poll() is None

    def log_tail(self) -> str:
        """Return the end of what the child wrote."""
        try:
            return self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        except OSError:
            return ""

    def last_words(self) -> str:
        """Return the last line of what the child wrote."""
        lines = [line.strip() for line in self.log_tail().splitlines() if line.strip()]
        return lines[-1] if lines else "it said nothing"

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it is still there."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def wait(self, timeout_seconds: float, *, tick: Tick = no_tick) -> int:
        """Return the exit code.

        Raises:
            WaitedTooLong: the process runs longer than that.
        """
        wait_until(
            lambda: not self.is_alive(),
            timeout_seconds=timeout_seconds,
            what=f"{self.name} to end",
            tick=tick,
        )
        return int(self.process.returncode)

    def stop(self, number: signal.Signals, timeout_seconds: float) -> None:
        """Send `number` and wait; past the time, kill."""
        self.send(number)
        self.end(timeout_seconds)

    def end(self, timeout_seconds: float, *, is_urgent: Callable[[], bool] = lambda: False) -> None:
        """Wait for the end of a process that was told to stop; past the time, or once it is
        urgent, kill.
        """
        deadline = time.monotonic() + timeout_seconds
        while self.is_alive() and time.monotonic() < deadline and not is_urgent():
            time.sleep(POLL_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Kill what is left of the process and of its group, at once."""
        # A program that forks (gunicorn, dramatiq) can die before its own children do.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(KILL_SECONDS)


def wait_until(
    condition: Callable[[], bool], *, timeout_seconds: float, what: str, tick: Tick = no_tick
) -> None:
    """Return as soon as `condition()` is true.

    Raises:
        WaitedTooLong: it was not within the time.
    """
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise WaitedTooLong(f"waited {timeout_seconds:.0f} s for {what}: giving up")
        tick()
        time.sleep(POLL_SECONDS)


def _rotated_log(log_dir: Path, name: str) -> Path:
    log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = log_dir / f"{name}.log"
    if log.exists():
        log.replace(log_dir / f"{name}.log.1")
    return log


def _before_exec(
    death_signal: signal.Signals, prepare: Callable[[], None] | None
) -> Callable[[], None]:
    parent = os.getpid()
    # Only Linux has it; elsewhere a killed parent leaves children to the guardian alone.
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def before_exec() -> None:
        if prepare is not None:
            prepare()
        if prctl is None:
            return
        # The kernel forgets this at every change of identity, so it comes after `prepare`.
        prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # the parent died before the line above

    return before_exec
