"""Child processes that end with this process, write to their own logs and stop in bounded time.

The kernel ties the parent-death signal to the forking thread: start children in the main thread.
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

#: Called between the polls of every wait; it may raise to abort the wait.
Tick = Callable[[], None]


class WaitTimeout(LauncherError):
    """A condition did not become true within its time."""


def no_tick() -> None:
    """Do nothing between two polls."""


class Child:
    """A child process, the leader of its own session."""

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
        inherited_fd: int | None = None,
        stdin: bytes = b"",
        stdout: int | None = None,
    ) -> Child:
        """Start `argv` with its output in `<log_dir>/<name>.log`.

        Args:
            death_signal: the signal that the kernel sends to the child when this process dies.
            prepare: runs in the child before `exec`, to drop privileges.
            inherited_fd: a file descriptor that the child inherits.
            stdin: the child's standard input; must fit a pipe's buffer.
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
                    pass_fds=() if inherited_fd is None else (inherited_fd,),
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
        """Return whether the process still runs; reap it if it ended."""
        return self.process.poll() is None

    def log_tail(self) -> str:
        """Return the last bytes of the child's log, at most `LOG_TAIL_BYTES`."""
        try:
            return self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        except OSError:
            return ""

    def last_log_line(self) -> str:
        """Return the last line of the child's log."""
        lines = [line.strip() for line in self.log_tail().splitlines() if line.strip()]
        return lines[-1] if lines else "no output"

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process if it still exists."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def wait(self, timeout_seconds: float, *, tick: Tick = no_tick) -> int:
        """Wait for the end of the process and return its exit code.

        Raises:
            WaitTimeout: the process still runs after `timeout_seconds`.
        """
        wait_until(
            lambda: not self.is_alive(),
            timeout_seconds=timeout_seconds,
            what=f"{self.name} to end",
            tick=tick,
        )
        return int(self.process.returncode)

    def stop(self, number: signal.Signals, timeout_seconds: float) -> None:
        """Send a signal, wait, and kill the process after `timeout_seconds`."""
        self.send(number)
        self.end(timeout_seconds)

    def end(self, timeout_seconds: float, *, is_urgent: Callable[[], bool] = lambda: False) -> None:
        """Wait for a process that was signalled to stop, then kill the rest of its group.

        Stops waiting after `timeout_seconds`, or as soon as `is_urgent()` is true.
        """
        deadline = time.monotonic() + timeout_seconds
        while self.is_alive() and time.monotonic() < deadline and not is_urgent():
            time.sleep(POLL_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Kill the process and all that remain of its group."""
        # A program that forks (gunicorn, dramatiq) can die before its children.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(KILL_SECONDS)


def wait_until(
    condition: Callable[[], bool], *, timeout_seconds: float, what: str, tick: Tick = no_tick
) -> None:
    """Poll until `condition()` is true.

    Args:
        what: names the condition in the error message.

    Raises:
        WaitTimeout: the condition is still false after `timeout_seconds`.
    """
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise WaitTimeout(f"gave up after waiting {timeout_seconds:.0f} s for {what}")
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
    # Linux only. On other systems the guardian alone ends the children of a killed parent.
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def before_exec() -> None:
        if prepare is not None:
            prepare()
        if prctl is None:
            return
        # Call after `prepare`: the kernel clears this setting when the process changes identity.
        prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # the parent died before prctl took effect

    return before_exec
