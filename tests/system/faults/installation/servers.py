"""PostgreSQL and Valkey of an installation, behind links that can be cut."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch
from urllib.parse import urlsplit

import psutil

from cli.servers.postgres import SERVER_SETTINGS, Postgres
from cli.servers.valkey import Valkey
from migrations.run import upgrade
from tests.system.faults.installation.disk import SmallDisk
from tests.system.faults.installation.link import Link, LinkState, Network

POSTGRES = {"max_wal_size": "128MB", "min_wal_size": "80MB", "max_connections": "120"}
#: The two sides that use the servers.
SIDES = ("api", "worker")


class Servers:
    """PostgreSQL on a small disk and Valkey, with one link to each of them for each side.

    Attributes:
        links: by the side that uses the link and the server that it leads to.
    """

    def __init__(self, directory: Path) -> None:
        self.logs = directory / "servers"
        self.logs.mkdir()
        self.disk = SmallDisk(directory / "disk")
        self.postgres = Postgres(self.disk.path / "postgres", log_dir=self.logs, is_durable=False)
        self.valkey = Valkey(directory / "valkey", log_dir=self.logs)
        self.network = Network()
        self.links: dict[tuple[str, str], Link] = {}

    def start(self) -> None:
        """Start both, create the schema and open the links."""
        with patch.dict(SERVER_SETTINGS, POSTGRES):
            self.postgres.start()
        self.valkey.start()
        upgrade(self.postgres.url)
        ports = {"postgres": self.postgres.port, "valkey": self.valkey.port}
        self.links = {
            (side, server): Link(self.network, to_port=port)
            for side in SIDES
            for server, port in ports.items()
        }

    def stop(self) -> None:
        self.valkey.stop()
        self.postgres.stop()
        for link in self.links.values():
            link.close()
        self.network.close()

    def environment(self, side: str) -> dict[str, str]:
        """Return the addresses of the links of one side."""
        urls = {"postgres": self.postgres.url, "valkey": self.valkey.url}
        names = {"postgres": "DATABASE_URL", "valkey": "REDIS_URL"}
        return {
            names[server]: url.replace(
                f":{urlsplit(url).port}/", f":{self.links[side, server].port}/"
            )
            for server, url in urls.items()
        }

    def restart_ended(self) -> None:
        """Start PostgreSQL and Valkey if they have ended; PostgreSQL only with room on its disk."""
        postgres, valkey = self.postgres.child, self.valkey.child
        if not self.disk.is_full and (postgres is None or not postgres.is_alive()):
            with patch.dict(SERVER_SETTINGS, POSTGRES):
                self.postgres.spawn()
            self.postgres.wait_ready()
        if valkey is None or not valkey.is_alive():
            self.valkey.start()

    def mend(self) -> None:
        """Free the disk, continue frozen servers, start ended ones and restore the links."""
        self.disk.free()
        for pid in (*self.processes("postgres"), *self.processes("valkey")):
            send_signal(pid, signal.SIGCONT)
        self.restart_ended()
        for link in self.links.values():
            if link.state is not LinkState.UP:
                link.set(LinkState.UP)

    def processes(self, server: str) -> list[int]:
        """Return a server's processes, its main process first."""
        child = (self.postgres if server == "postgres" else self.valkey).child
        if child is None or not child.is_alive():
            return []
        with suppress(psutil.NoSuchProcess):
            return [child.pid, *(one.pid for one in psutil.Process(child.pid).children())]
        return []


def send_signal(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
