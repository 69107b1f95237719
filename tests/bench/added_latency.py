"""Measures the latency that we add to the engine's. `python -m tests.bench.added_latency`

Sends one request at a time over HTTP. The echo engine takes no time, so the latency is that of
HTTP, queue, worker and delivery. The same run measures a request that only reads the database, and
one transaction.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import requests
from sqlalchemy import text

from models.database.base import open_database, sessions
from tests.bench.servers import MODEL, own_servers
from tests.support.service import Service

PAUSE_SECONDS = 0.02
BODY = {"prompt": "Write a Python function that reverses a list", "maxTokens": 32}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--model", type=Path, default=MODEL, help="a directory with a tokenizer")
    args = parser.parse_args()
    with (
        own_servers(args.model, ENGINE="echo", LOG_LEVEL="WARNING") as (settings, directory),
        Service.started(settings, directory) as service,
    ):
        _report(_measure(service, args.requests))


def _measure(service: Service, count: int) -> dict[str, list[float]]:
    """Return the times of each kind in milliseconds. The kinds alternate."""
    key = {"x-api-key": service.make_key(rateLimit=1_000_000)["secret"]}
    admin = service.sign_in_admin()
    database = sessions(open_database(service.settings))

    def transact() -> None:
        with database.begin() as transaction:
            transaction.execute(text("select txid_current()"))

    with requests.Session() as session:

        def generate() -> None:
            url = f"{service.url}/api/llm/generate"
            assert session.post(url, json=BODY, headers=key, timeout=60).status_code == 200

        def read() -> None:
            url = f"{service.url}/api/auth/me"
            assert session.get(url, headers=admin, timeout=60).status_code == 200

        kinds: dict[str, Callable[[], None]] = {
            "generate, the engine taking no time": generate,
            "a call that reads one row": read,
            "one transaction": transact,
        }
        times: dict[str, list[float]] = {name: [] for name in kinds}
        for number in range(count + 20):
            for name, call in kinds.items():
                began = time.perf_counter()
                call()
                if number >= 20:  # the first ones open connections
                    times[name].append((time.perf_counter() - began) * 1000)
            time.sleep(PAUSE_SECONDS)
    return times


def _report(times: dict[str, list[float]]) -> None:
    print(f"{'ms':38}{'median':>10}{'p90':>10}{'p99':>10}")
    medians = []
    for name, values in times.items():
        cuts = statistics.quantiles(values, n=100)
        medians.append(cuts[49])
        print(f"{name:38}{cuts[49]:10.2f}{cuts[89]:10.2f}{cuts[98]:10.2f}")
    print(f"generate over a call that reads one row, medians: {medians[0] / medians[1]:.1f}")


if __name__ == "__main__":
    main()
