"""Measures the cost of the limits: charges and settles a second beside bare INCRs.

python -m tests.bench.limits [--calls 5000]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import redis

from cli.servers.valkey import Valkey
from core.ids import new_id
from core.limits.limiter import Limiter
from tests.support.factories.limit_key import Key, nothing

ROUNDS = 5
IN_PIPELINE = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=5000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        valkey = Valkey(Path(name) / "valkey", log_dir=Path(name))
        try:
            valkey.start()
            _measure(redis.Redis.from_url(valkey.url), args.calls)
        finally:
            valkey.stop()


def _measure(client: redis.Redis, calls: int) -> None:
    limiter = Limiter(client)
    key = Key(10**9, 10**9, 10**9, 10**15)
    print(f"{'a second':>28}{'INCR':>10}{'charge':>10}{'settle':>10}{'both':>10}{'both/INCR':>11}")
    for _ in range(ROUNDS):
        jobs = [new_id() for _ in range(calls)]
        incr = _rate(jobs, lambda _: client.incr("counter"))
        charge = _rate(jobs, lambda job: limiter.charge(key, job, tokens=500, recall=nothing))
        settle = _rate(jobs, lambda job: limiter.settle(key.id, job, 100))
        both = 1 / (1 / charge + 1 / settle)
        row = (incr, charge, settle, both)
        print(f"{'':28}{''.join(f'{rate:10,.0f}' for rate in row)}{both / incr:11.2f}")
    piped = _piped(client, limiter, key, calls)
    print(f"settles in pipelines of {IN_PIPELINE}, a second: {piped:,.0f}")


def _rate(jobs: list[UUID], call: Callable[[UUID], object]) -> float:
    began = time.perf_counter()
    for job in jobs:
        call(job)
    return len(jobs) / (time.perf_counter() - began)


def _piped(client: redis.Redis, limiter: Limiter, key: Key, calls: int) -> float:
    jobs = [new_id() for _ in range(calls)]
    for job in jobs:
        limiter.charge(key, job, tokens=500, recall=nothing)
    began = time.perf_counter()
    for start in range(0, calls, IN_PIPELINE):
        with client.pipeline(transaction=False) as pipe:
            for job in jobs[start : start + IN_PIPELINE]:
                limiter.settle(key.id, job, 100, pipe=pipe)
            pipe.execute()
    return calls / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
