"""The processes of a service under load: their processor time, memory, files and connections."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import redis
from sqlalchemy import text

from core.redis.client import open_redis
from models.database.base import open_database
from tests.support.service import Service

GENERATOR = "load generator"
#: All other programs of the machine. Measurements beside busy ones mean little.
OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Sample:
    """The service's resources at one moment.

    Attributes:
        memory_mib: resident memory of each role. PostgreSQL's is the sum of its processes without
            `shared_mib`; memory that two of them share counts once.
        shared_mib: the touched part of the memory that PostgreSQL allocates at its start, which is
            `shared_buffers` for the most part.
        files: open files of each role, with sockets.
        redis_keys: number of keys by the part of their names before the first colon.
    """

    at: float
    memory_mib: dict[str, float]
    shared_mib: float
    files: dict[str, int]
    redis_keys: dict[str, int]
    redis_mib: float
    redis_connections: int
    database_connections: int

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass
class Processes:
    """All processes of a service and its servers, by their roles."""

    service: Service
    _client: redis.Redis = field(init=False)
    _postmaster: int = field(init=False)
    _valkey: int = field(init=False)

    def __post_init__(self) -> None:
        self._database = open_database(self.service.settings, pool_size=1)
        self._client = open_redis(self.service.settings)
        with self._database.connect() as connection:
            backend = connection.execute(text("select pg_backend_pid()")).scalar_one()
        parent = psutil.Process(backend).parent()
        assert parent is not None
        self._postmaster = parent.pid
        self._valkey = int(self._client.info("server")["process_id"])

    def close(self) -> None:
        self._database.dispose()
        self._client.close()

    def cpu_seconds(self) -> dict[str, float]:
        """Return the processor time of each role until now."""
        spent: dict[str, float] = {}
        for role, process in self._all():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                seconds = times.user + times.system
                if process.pid == self._postmaster:  # the sum of its ended processes
                    seconds += times.children_user + times.children_system
                name = role.partition(" ")[0]
                spent[name] = spent.get(name, 0.0) + seconds
        spent[GENERATOR] = time.process_time()
        machine = psutil.cpu_times()
        busy = sum(machine) - machine.idle - machine.iowait - machine.guest - machine.guest_nice
        spent[OTHERS] = busy - sum(spent.values())
        return spent

    def sample(self) -> Sample:
        """Return the resources at this moment."""
        memory: dict[str, float] = {}
        shared_mib = 0.0
        files: dict[str, int] = {}
        for role, process in self._all():
            with suppress(psutil.NoSuchProcess):
                if role == "PostgreSQL":
                    own, shared = _proportional_mib(process.pid)
                    shared_mib += shared
                else:
                    own = process.memory_info().rss / 2**20
                    files[role] = files.get(role, 0) + process.num_fds()
                memory[role] = memory.get(role, 0.0) + own
        keys: dict[str, int] = {}
        for key in self._client.scan_iter(count=5000):
            name = key.decode(errors="replace").partition(":")[0]
            keys[name] = keys.get(name, 0) + 1
        with self._database.connect() as connection:
            found = connection.execute(
                text("select count(*) from pg_stat_activity where application_name = 'bountycoder'")
            )
            connections = int(found.scalar_one())
        return Sample(
            at=time.monotonic(),
            memory_mib=memory,
            shared_mib=shared_mib,
            files=files,
            redis_keys=keys,
            redis_mib=self._client.info("memory")["used_memory"] / 2**20,
            redis_connections=int(self._client.info("clients")["connected_clients"]),
            database_connections=connections,
        )

    def _all(self) -> Iterator[tuple[str, psutil.Process]]:
        """Yield each process with its role; several processes of a role get numbers."""
        service = self.service
        if service.api is not None:
            yield "API parent", psutil.Process(service.api.pid)
            children = psutil.Process(service.api.pid).children()
            for number, process in enumerate(sorted(children, key=lambda p: p.pid), 1):
                yield f"API {number}", process
        for number, worker in enumerate(service.workers, 1):
            yield f"worker {number}", psutil.Process(worker.pid)
        yield "Valkey", psutil.Process(self._valkey)
        yield "PostgreSQL", psutil.Process(self._postmaster)
        for process in psutil.Process(self._postmaster).children(recursive=True):
            yield "PostgreSQL", process


def _proportional_mib(pid: int) -> tuple[float, float]:
    """Return the proportional memory of a process, without shared segments and of them."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        raise psutil.NoSuchProcess(pid) from None
    kib = {name: int(size.split()[0]) for name, _, size in (line.partition(":") for line in lines)}
    shared = kib["Pss_Shmem"]
    return (kib["Pss"] - shared) / 1024, shared / 1024


@dataclass
class CpuUse:
    """Processor time of each role over a stretch of time."""

    seconds: float
    by_role: dict[str, float]

    @property
    def service(self) -> float:
        """The processor seconds of all roles of the service."""
        return sum(s for role, s in self.by_role.items() if role not in (GENERATOR, OTHERS))

    def to_json(self) -> dict[str, float]:
        """Return the processors that each role kept busy."""
        cores = {role: round(spent / self.seconds, 2) for role, spent in self.by_role.items()}
        return {**cores, "of": float(os.cpu_count() or 1)}


class CpuMeter:
    """Measures processor time from its construction to `read`."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._before = processes.cpu_seconds()
        self._began = time.perf_counter()

    def read(self) -> CpuUse:
        after = self._processes.cpu_seconds()
        used = {role: spent - self._before.get(role, 0.0) for role, spent in after.items()}
        return CpuUse(time.perf_counter() - self._began, used)
