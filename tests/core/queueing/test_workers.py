from __future__ import annotations

import json
from dataclasses import replace

import redis

from core.queueing.workers import GpuStatus, WorkerRegistry, WorkerStatus


def status(worker_id: str, *, is_ready: bool = True) -> WorkerStatus:
    return WorkerStatus(worker_id=worker_id, model="m", context_length=10, is_ready=is_ready)


def test_only_ready_workers_are_ready(redis_client: redis.Redis) -> None:
    registry = WorkerRegistry(redis_client)
    registry.report(status("a"))
    registry.report(status("b", is_ready=False))

    assert [s.worker_id for s in registry.alive()] == ["a", "b"]
    assert [s.worker_id for s in registry.ready()] == ["a"]


def test_a_worker_without_a_heartbeat_is_removed(redis_client: redis.Redis) -> None:
    registry = WorkerRegistry(redis_client)
    registry.report(status("a"))
    redis_client.delete("worker:a")  # as the end of its time to live does

    assert registry.alive() == []
    assert redis_client.smembers("workers") == set()


def test_a_worker_that_unregisters_is_gone_at_once(redis_client: redis.Redis) -> None:
    registry = WorkerRegistry(redis_client)
    registry.report(status("a"))
    registry.remove("a")

    assert registry.alive() == []


def test_unknown_fields_of_a_newer_worker_are_ignored(redis_client: redis.Redis) -> None:
    registry = WorkerRegistry(redis_client)
    registry.report(status("a"))
    redis_client.set(
        "worker:a", redis_client.get("worker:a").replace(b"{", b'{"extra": "good", ', 1)
    )

    assert registry.alive() == [status("a")]


def test_a_worker_reports_its_gpus(redis_client: redis.Redis) -> None:
    registry = WorkerRegistry(redis_client)
    reported = replace(status("a"), gpus=(GpuStatus("H100", 0.5, 1, 2, 60), GpuStatus("unknown")))

    registry.report(reported)

    assert registry.alive() == [reported]


def test_the_status_of_a_newer_or_older_worker_is_read(redis_client: redis.Redis) -> None:
    registry = WorkerRegistry(redis_client)
    registry.report(status("a"))
    written = json.loads(redis_client.get("worker:a"))
    del written["gpus"]
    redis_client.set("worker:a", json.dumps({**written, "extra": 1}))
    registry.report(status("b"))
    written["gpus"] = [{"name": "H100", "extra": 1}]
    redis_client.set("worker:b", json.dumps({**written, "worker_id": "b"}))

    assert [worker.gpus for worker in registry.alive()] == [(), (GpuStatus("H100"),)]
