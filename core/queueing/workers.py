"""The heartbeats of workers: each worker writes its own, and other processes read them.

Redis keys:
    workers            set of the ids of workers
    worker:{id}        JSON of `WorkerStatus`; lives `TTL_SECONDS` after the last heartbeat
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

import redis

#: A worker whose last heartbeat is older counts as gone.
TTL_SECONDS = 8
_SET_KEY = "workers"
#: The bulk slots of a worker that does not report them.
BULK_SLOTS = 16


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GpuStatus:
    """What the driver reports of a GPU; `None` and 0 are unknown.

    Attributes:
        use: share of the time in which the GPU worked, 0 to 1.
        memory_used: bytes, of `memory_total`.
        temperature: degrees Celsius.
    """

    name: str
    use: float | None = None
    memory_used: int = 0
    memory_total: int = 0
    temperature: int | None = None


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What a worker reports of itself.

    Attributes:
        is_ready: the worker takes jobs; false while it loads and while it drains.
        tokens_per_second: generated tokens per second since the last heartbeat.
        jobs_per_second: finished jobs per second at full load; 0 is unknown.
        bulk_places: bulk jobs that the worker runs at once.
        cache_use: used share of the attention cache, 0 to 1.
        gpus: the GPUs of its machine.
    """

    worker_id: str
    model: str
    context_length: int
    is_ready: bool
    running: int = 0
    waiting: int = 0
    cache_use: float = 0.0
    steps: int = 0
    tokens_per_second: float = 0.0
    jobs_per_second: float = 0.0
    restarts: int = 0
    bulk_places: int = BULK_SLOTS
    gpus: tuple[GpuStatus, ...] = ()


class WorkerRegistry:
    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def report(self, status: WorkerStatus) -> None:
        """Write a heartbeat."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.sadd(_SET_KEY, status.worker_id)
            pipe.set(_key(status.worker_id), json.dumps(asdict(status)), ex=TTL_SECONDS)
            pipe.execute()

    def remove(self, worker_id: str) -> None:
        """Remove a worker that has stopped."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.srem(_SET_KEY, worker_id)
            pipe.delete(_key(worker_id))
            pipe.execute()

    def alive(self) -> list[WorkerStatus]:
        """Return the workers with a current heartbeat, and remove the ids of the others."""
        ids = sorted(_text(member) for member in self._client.smembers(_SET_KEY))
        if not ids:
            return []
        found = self._client.mget([_key(worker_id) for worker_id in ids])
        gone = [wid for wid, data in zip(ids, found, strict=True) if data is None]
        if gone:
            self._client.srem(_SET_KEY, *gone)
        return [_status(data) for data in found if data is not None]

    def ready(self) -> list[WorkerStatus]:
        return [status for status in self.alive() if status.is_ready]


def _key(worker_id: str) -> str:
    return f"worker:{worker_id}"


def _status(data: bytes | str) -> WorkerStatus:
    values = json.loads(data)
    values["gpus"] = tuple(_read(GpuStatus, gpu) for gpu in values.get("gpus", ()))
    return _read(WorkerStatus, values)


def _read(kind: type[T], values: Mapping[str, Any]) -> T:
    """Build a dataclass from JSON; ignore the fields that only a newer worker writes."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    return kind(**{name: value for name, value in values.items() if name in known})


def _text(member: bytes | str) -> str:
    return member.decode() if isinstance(member, bytes) else member
