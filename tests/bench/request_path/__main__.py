"""Compares our request path with the least possible. `python -m tests.bench.request_path`

One run on one machine, in alternation: a bare Flask view (tests/bench/request_path/bare_view.py),
our `POST /api/llm/jobs` without a worker, and our synchronous `generate` with a worker and the echo
engine. `wrk` (Debian's package) makes the requests.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
import requests
from sqlalchemy import create_engine, text

from cli.system.ports import free_port
from core.config.settings import Settings
from tests.bench.request_path.wrk import BODY, NO_LIMITS, load
from tests.bench.servers import MODEL, own_servers
from tests.support.polling import wait_until
from tests.support.service import Service

#: Uses greenlets, as our own programs do.
BARE_VIEW = """
from cli.commands.programs import use_greenlets
use_greenlets()
from models.database.greenlet_wait import wait_in_greenlets
wait_in_greenlets(60)
from tests.bench.request_path.bare_view import main
main()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL, help="a directory with a tokenizer")
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("this benchmark needs wrk: apt-get install wrk")
    with own_servers(args.model, **NO_LIMITS) as (settings, directory):
        for at_once in (16, 64):
            _report(at_once, _measure(settings, directory, at_once, args.seconds, args.rounds))


def _measure(
    settings: Settings, directory: Path, at_once: int, seconds: int, rounds: int
) -> dict[str, list[float]]:
    """Return the requests a second of each program, one value a round."""
    rates: dict[str, list[float]] = {"bare view": [], "jobs": [], "generate": []}
    for _ in range(rounds):
        with _bare(settings) as url:
            rates["bare view"].append(load(f"{url}/jobs", {}, at_once, seconds))
        with Service.started(settings, directory, workers=0) as service:
            headers = {"x-api-key": service.make_key(rateLimit=1_000_000)["secret"]}
            rates["jobs"].append(load(f"{service.url}/api/llm/jobs", headers, at_once, seconds))
        _delete_jobs(settings)
        with Service.started(settings, directory) as service:
            headers = {"x-api-key": service.make_key(rateLimit=1_000_000)["secret"]}
            url = f"{service.url}/api/llm/generate"
            rates["generate"].append(load(url, headers, at_once, seconds))
    return rates


@contextmanager
def _bare(settings: Settings) -> Iterator[str]:
    port = free_port()
    environment = {"PATH": "/usr/bin:/bin", **settings.to_environment(), "API_PORT": str(port)}
    process = subprocess.Popen([sys.executable, "-c", BARE_VIEW], env=environment)
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        try:
            return requests.post(f"{url}/jobs", json=BODY, timeout=5).status_code == 202
        except requests.ConnectionError:
            return False

    try:
        wait_until(is_ready, 30)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _delete_jobs(settings: Settings) -> None:
    """Empty the queue and the table, so that the worker has nothing else to do."""
    redis.Redis.from_url(settings.redis_url.get_secret_value()).flushall()
    engine = create_engine(settings.database_url.get_secret_value())
    with engine.begin() as connection:
        connection.execute(text("truncate jobs"))
    engine.dispose()


def _report(at_once: int, rates: dict[str, list[float]]) -> None:
    bare = statistics.median(rates["bare view"])
    print(f"{at_once} at once:")
    for name, values in rates.items():
        rate = statistics.median(values)
        rounds = ", ".join(f"{value:.0f}" for value in values)
        print(f"  {name:10} {rate:6.0f} requests/s, {rate / bare:.2f} of the bare view ({rounds})")


if __name__ == "__main__":
    main()
