from __future__ import annotations

import json
from dataclasses import replace

import redis

from core.queueing.workers import GpuStatus, WorkerRegistry, WorkerStatus


def status(worker_id: str, *, is_ready: bool = True) -> WorkerStatus:
    return WorkerStatus(worker_id=worker_id, model="m", context_length=10, is_ready=is_ready)


def test_only_ready_workers_are_ready(client: redis.Redis) -> None:
    registry = WorkerRegistry(client)
    registry.report(status("a"))
    registry.report(status("b", is_ready=False))

    assert [s.worker_id for s in registry.alive()] == ["a", "b"]
    assert [s.worker_id for s in registry.ready()] == ["a"]


def test_a_worker_that_falls_silent_is_forgotten(client: redis.Redis) -> None:
    registry = WorkerRegistry(client)
    registry.report(status("a"))
    client.delete("worker:a")  # as its time to live does

    assert registry.alive() == []
    assert client.smembers("workers") == set()


def test_a_worker_that_says_goodbye_is_gone_at_once(client: redis.Redis) -> None:
    registry = WorkerRegistry(client)
    registry.report(status("a"))
    registry.remove("a")

    assert registry.alive() == []


def test_what_a_newer_worker_says_more_is_passed_over(client: redis.Redis) -> None:
    registry = WorkerRegistry(client)
    registry.report(status("a"))
    client.set("worker:a", client.get("worker:a").replace(b"{", b'{"mood": "good", ', 1))

    assert registry.alive() == [status("a")]


def test_a_worker_reports_its_gpus(client: redis.Redis) -> None:
    registry = WorkerRegistry(client)
    reported = replace(status("a"), gpus=(GpuStatus("H100", 0.5, 1, 2, 60), GpuStatus("unknown")))

    registry.report(reported)

    assert registry.alive() == [reported]


def test_what_a_newer_or_an_older_worker_says_is_read(client: redis.Redis) -> None:
    registry = WorkerRegistry(client)
    registry.report(status("a"))
    written = json.loads(client.get("worker:a"))
    del written["gpus"]
    client.set("worker:a", json.dumps({**written, "news": 1}))
    registry.report(status("b"))
    written["gpus"] = [{"name": "H100", "news": 1}]
    client.set("worker:b", json.dumps({**written, "worker_id": "b"}))

    assert [worker.gpus for worker in registry.alive()] == [(), (GpuStatus("H100"),)]
