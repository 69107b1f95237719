"""What is kept on disk between runs besides the servers' data: locks and secrets."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cli.system.child_process import Tick, no_tick, wait_until
from core.errors import LauncherError

#: Below the range that the kernel gives to outgoing connections, which could take a free port
#: between our choice and the server's start, or while the server restarts.
PORTS = range(20_000, 30_000)
PORT_TRIES = 100
SECRET_BYTES = 32


def kept_secret(path: Path) -> str:
    """Return the secret in `path`; the first call makes it, readable by its owner only."""
    with suppress(FileNotFoundError):
        if secret := path.read_text().strip():
            return secret
    secret = secrets.token_urlsafe(SECRET_BYTES)
    write_private(path, secret + "\n")
    return secret


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read; it is never seen half written."""
    beside = path.with_name(f"{path.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


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
    """Hold the lock that a server and all its processes inherit, so none of an old run is left.

    A process id in a file can be a zombie's or, after a reboot, another program's. A lock that
    the server's processes hold cannot lie: the kernel frees it when the last of them has ended.

    Raises:
        LauncherError: an old server keeps it longer than `timeout_seconds`.
    """
    held: list[int] = []

    def is_held() -> bool:
        descriptor = try_lock(path)
        if descriptor is not None:
            held.append(descriptor)
        return bool(held)

    wait_until(
        is_held,
        timeout_seconds=timeout_seconds,
        what=f"the server of an earlier run to let go of {path}",
        tick=tick,
    )
    try:
        yield held[0]
    finally:
        os.close(held[0])


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    for _ in range(PORT_TRIES):
        port = PORTS.start + secrets.randbelow(len(PORTS))
        if bind_fault("127.0.0.1", port) is None:
            return port
    raise LauncherError(f"found no free port between {PORTS.start} and {PORTS.stop}")


def bind_fault(host: str, port: int) -> OSError | None:
    """Return why no server could listen there now, or `None` if one could."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do it: connections of an earlier run that still linger are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None
