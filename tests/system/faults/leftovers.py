"""What a run must not leave behind: messages, charges, connections, and processes that grew."""

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
from tests.system.faults.instance import Instance

#: How long what is left of connections and queues may take to go.
TIDY_SECONDS = 25.0
POLL_SECONDS = 0.2
#: Beyond what the first run left a process with.
MORE_BYTES, MORE_FILES, MORE_THREADS = 64 * 1024**2, 80, 24
#: Orphaned charges are taken back after two minutes, at a pass each quarter of a minute.
ORPHAN_SECONDS = 150.0


@dataclass(frozen=True, slots=True)
class Process:
    """What a process takes."""

    memory: int
    files: int
    threads: int


class Leftovers:
    """Looks at one instance after each of its runs."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._first: dict[str, Process] = {}
        self._charged: list[tuple[float, UUID]] = []

    def left(self, keys: Iterable[UUID]) -> list[str]:
        """Return what a run under these keys left, that does not go in time."""
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
            for what, is_now, was, more in (
                ("bytes", process.memory, first.memory, MORE_BYTES),
                ("open files", process.files, first.files, MORE_FILES),
                ("threads", process.threads, first.threads, MORE_THREADS),
            ):
                if is_now > was + more:
                    found.append(f"{name} has {is_now} {what}, after the first run {was}")
        return found

    def _messages(self) -> Iterator[str]:
        """Messages that nobody says are done."""
        for queue in ("interactive", "bulk"):
            waiting = self._instance.redis.hlen(f"dramatiq:{queue}.msgs")
            if waiting:
                yield f"{waiting} messages are left on the queue {queue}"

    def _charges(self) -> Iterator[str]:
        """Charges of jobs that are over, of runs long enough ago."""
        limiter = Limiter(self._instance.redis)
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
        with self._instance.sessions() as session:
            for state, count in session.execute(text(query)):
                yield f"{count} connections to PostgreSQL are {state}"
        gc.collect()  # answers that clients here dropped may keep their connections until then
        port = self._instance.api_port
        for name, pid in self._instance.api_places().items():
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

    def _processes(self) -> dict[str, Process]:
        found = {}
        for name, pid in self._instance.pids().items():
            processes = self._instance.api_places() if name == "api" else {name: pid}
            for one, number in processes.items():
                try:
                    process = psutil.Process(number)
                    found[one] = Process(
                        process.memory_info().rss, process.num_fds(), process.num_threads()
                    )
                except psutil.NoSuchProcess:
                    continue
        return found


def _owner(address: Any) -> str:
    """Return which process has the other end of a connection on this machine."""
    for one in psutil.net_connections("tcp"):
        if one.laddr == address:
            name = psutil.Process(one.pid).cmdline()[-3:] if one.pid else "nobody"
            return f"{name} ({one.status}, port {address.port})"
    return f"nobody, port {address.port}"
