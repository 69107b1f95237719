"""Locks on files, which the kernel frees when the last process that holds one ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.system.child_process import Tick, no_tick, wait_until


def try_lock(path: Path) -> int | None:
    """Return the descriptor that holds the lock on `path`, or `None` if another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def server_lock(path: Path, *, timeout_seconds: float, tick: Tick = no_tick) -> Iterator[int]:
    """Wait for the lock that a server and all its processes inherit, and hold it.

    The lock proves that no process of an earlier run is left. A process id in a file proves
    nothing: it can belong to a zombie or, after a reboot, to another program.

    Raises:
        WaitTimeout: an old server holds it longer than `timeout_seconds`.
    """
    descriptors: list[int] = []

    def is_locked() -> bool:
        descriptor = try_lock(path)
        if descriptor is not None:
            descriptors.append(descriptor)
        return bool(descriptors)

    wait_until(
        is_locked,
        timeout_seconds=timeout_seconds,
        what=f"the server of an earlier run to release {path}",
        tick=tick,
    )
    try:
        yield descriptors[0]
    finally:
        os.close(descriptors[0])
