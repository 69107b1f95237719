"""What a run must not leave: messages, charges, connections, and processes that grew."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psutil
from sqlalchemy import text

from core.limits.limiter import Limiter
from tests.system.faults.installation.breakable import BreakableInstallation

#: Bound of the time in which connections and messages vanish.
TIDY_SECONDS = 25.0
POLL_SECONDS = 0.2
#: Allowed growth of a process since its first run.
MORE_BYTES, MORE_FILES, MORE_THREADS = 64 * 1024**2, 80, 24
#: The reconciler settles orphaned charges after two minutes; it runs every 15 seconds.
ORPHAN_SECONDS = 150.0


@dataclass(frozen=True, slots=True)
class ProcessSize:
    """The resources of a process."""

    memory: int
    files: int
    threads: int


class Leftovers:
    """Checks one installation after each of its runs."""

    def __init__(self, installation: BreakableInstallation) -> None:
        self._installation = installation
        self._first: dict[str, ProcessSize] = {}
        self._charged: list[tuple[float, UUID]] = []

    def left(self, keys: Iterable[UUID]) -> list[str]:
        """Return what a run with these keys left and what did not vanish in time."""
        now = time.monotonic()
        self._charged += [(now, key_id) for key_id in keys]
        while True:
            left = self._left()
            if not left or time.monotonic() > now + TIDY_SECONDS:
                return left
            time.sleep(POLL_SECONDS)

    def _left(self) -> list[str]:
        found = [*self._messages(), *self._charges(), *self._connections()]
        for name, process in self._processes().items():
            first = self._first.setdefault(name, process)
            for resource, is_now, was, more in (
                ("bytes", process.memory, first.memory, MORE_BYTES),
                ("open files", process.files, first.files, MORE_FILES),
                ("threads", process.threads, first.threads, MORE_THREADS),
            ):
                if is_now > was + more:
                    found.append(f"{name} has {is_now} {resource}, after the first run {was}")
        return found

    def _messages(self) -> Iterator[str]:
        """Find messages that no worker has acknowledged, and say who fetched them."""
        client = self._installation.redis
        for queue in ("interactive", "bulk"):
            left = client.hlen(f"dramatiq:{queue}.msgs")
            if left:
                waiting = client.llen(f"dramatiq:{queue}")
                fetched = {
                    key.decode().split(".")[1]: client.scard(key)
                    for key in client.scan_iter(f"dramatiq:__acks__.*.{queue}")
                }
                alive = client.zrange("dramatiq:__heartbeats__", 0, -1, withscores=True)
                yield (
                    f"{left} messages are left on the queue {queue}: {waiting} wait, {fetched} "
                    f"are fetched, with heartbeats {alive} at {client.time()}"
                )

    def _charges(self) -> Iterator[str]:
        """Find charges of ended jobs of earlier runs."""
        limiter = Limiter(self._installation.redis)
        before = time.monotonic() - ORPHAN_SECONDS
        due = [one for one in self._charged if one[0] < before]
        for one in due:
            if held := limiter.in_flight(one[1]):
                yield f"the key {one[1].hex} still holds {len(held)} charges"
            else:
                self._charged.remove(one)

    def _connections(self) -> Iterator[str]:
        query = (
            "select state, count(*) from pg_stat_activity where application_name = 'bountycoder'"
            " and pid <> pg_backend_pid() and state <> 'idle'"
            " and state_change < now() - interval '3 seconds' group by 1"
        )
        with self._installation.sessions() as session:
            for state, count in session.execute(text(query)):
                yield f"{count} connections to PostgreSQL are {state}"
        gc.collect()  # responses that clients dropped may keep their connections until then
        port = self._installation.up.api_port
        for name, pid in self._installation.api_processes_by_name().items():
            try:
                connections = psutil.Process(pid).net_connections("tcp")
            except psutil.NoSuchProcess:
                continue
            clients = [
                _owner(one.raddr)
                for one in connections
                if one.laddr.port == port and one.status == "ESTABLISHED"
            ]
            if clients:
                yield f"still connected to {name}: {', '.join(clients)}"

    def _processes(self) -> dict[str, ProcessSize]:
        found = {}
        for name, pid in self._installation.pids().items():
            processes = self._installation.api_processes_by_name() if name == "api" else {name: pid}
            for one, number in processes.items():
                try:
                    process = psutil.Process(number)
                    found[one] = ProcessSize(
                        process.memory_info().rss, process.num_fds(), process.num_threads()
                    )
                except psutil.NoSuchProcess:
                    continue
        return found


def _owner(address: Any) -> str:
    """Return the process at the other end of a connection on this machine."""
    for one in psutil.net_connections("tcp"):
        if one.laddr == address:
            name = psutil.Process(one.pid).cmdline()[-3:] if one.pid else "no process"
            return f"{name} ({one.status}, port {address.port})"
    return f"no process, port {address.port}"
