"""Measures how keys share a worker, over HTTP. `python -m tests.bench.fairness`

Three figures, each a ratio within one run of the real service with the small model:

1. Key A keeps 200 requests in flight while key B sends one at a time. B's time to first token is
   divided by its time when A keeps only as many as run at once: the engine is as full, but the
   queue is empty.
2. Both keys keep the queue full for a minute: tokens of A over tokens of B.
3. The same with priority 2 for A and 1 for B.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from sqlalchemy import select

from core.ids import Prefix, parse_id
from models.database.base import SessionFactory, open_database, sessions
from models.jobs.job import Job
from tests.bench.servers import MODEL, own_servers
from tests.support.service import Service

AT_ONCE = 8
IN_FLIGHT = 200
NEW_TOKENS = 32
PROMPT = "Write a short Python function that reverses a list. "


@dataclass
class ConstantLoad:
    """A key that always has `in_flight` requests in the service."""

    service: Service
    key: dict[str, Any]
    in_flight: int
    tokens: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self._threads = [threading.Thread(target=self._ask) for _ in range(self.in_flight)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with requests.Session() as session:
            while not self._stop.is_set():
                self.tokens += ask(session, self.service, self.key)["usage"]["completion_tokens"]


def ask(session: requests.Session, service: Service, key: dict[str, Any]) -> dict[str, Any]:
    """Send one request and wait for its response."""
    response = session.post(
        f"{service.url}/api/llm/generate",
        json={"prompt": PROMPT, "maxTokens": NEW_TOKENS, "ignoreEos": True},
        headers={"x-api-key": key["secret"]},
        timeout=600,
    )
    if response.status_code != 200:
        raise RuntimeError(response.text)
    return dict(response.json())


def first_token_seconds(service: Service, key: dict[str, Any], count: int) -> float:
    """Return the median time to first token of requests sent one at a time."""
    database = sessions(open_database(service.settings))
    with requests.Session() as session:
        ids = [ask(session, service, key)["id"] for _ in range(count)]
    return statistics.median(_first_token(database, job_id) for job_id in ids)


def _first_token(database: SessionFactory, job_id: str) -> float:
    with database() as session:
        job = session.get_one(Job, parse_id(Prefix.JOB, job_id))
    assert job.first_token_at is not None
    return (job.first_token_at - job.created_at).total_seconds()


def shares(service: Service, seconds: float, *, priority: int) -> float:
    """Return the tokens of a key of this priority over the tokens of a key of priority 1."""
    keys = [service.make_key(priority=p) for p in (priority, 1)]
    loads = [ConstantLoad(service, key, 3 * AT_ONCE) for key in keys]
    for load in loads:
        load.start()
    time.sleep(seconds / 6)  # until both keys have all their requests in flight
    before = _generated(service, keys)
    time.sleep(seconds)
    made = [now - then for now, then in zip(_generated(service, keys), before, strict=True)]
    for load in loads:
        load.stop()
    return made[0] / made[1]


def _generated(service: Service, keys: list[dict[str, Any]]) -> list[int]:
    """Return the tokens of each key's ended jobs."""
    database = sessions(open_database(service.settings))
    with database() as session:
        rows = session.execute(select(Job.api_key_id, Job.completion_tokens)).all()
    counts: Counter[Any] = Counter()
    for key_id, tokens in rows:
        counts[key_id] += tokens
    return [counts[parse_id(Prefix.KEY, key["id"])] for key in keys]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--requests", type=int, default=15, help="of key B, one at a time")
    args = parser.parse_args()
    environment = {
        "ENGINE_MAX_SEQUENCES": str(AT_ONCE),
        "SYNC_WAIT_SECONDS": "600",
        "MAX_QUEUE_SECONDS": "10000",  # a long queue is the point
    }
    with (
        own_servers(args.model, **environment) as (settings, directory),
        Service.started(settings, directory) as service,
    ):
        _report(service, args.requests, args.seconds)


def _report(service: Service, count: int, seconds: float) -> None:
    quiet, flood = service.make_key(), service.make_key()
    times = []
    for in_flight in (AT_ONCE - 1, IN_FLIGHT):
        load = ConstantLoad(service, flood, in_flight)
        load.start()
        time.sleep(5)  # until the load fills the queue
        times.append(first_token_seconds(service, quiet, count))
        load.stop()
        print(f"beside {in_flight} of another key: first token after {times[-1]:.2f} s (median)")
    print(f"first token beside {IN_FLIGHT} in flight over {AT_ONCE - 1}: {times[1] / times[0]:.2f}")
    print(f"tokens of two keys alike: {shares(service, seconds, priority=1):.2f}")
    print(f"tokens of priority 2 over priority 1: {shares(service, seconds, priority=2):.2f}")


if __name__ == "__main__":
    main()
