from __future__ import annotations

import redis

from core.worker_registry import WorkerRegistry, WorkerStatus


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
