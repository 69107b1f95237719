"""What our request path costs beside the least possible. `python -m tests.bench.request_path`

One run on one machine, in turns: a bare Flask view (tests/bench/bare_view.py), our
`POST /api/llm/jobs` without a worker, and our synchronous `generate` with a worker and the echo
engine. `wrk` (Debian's package) makes the requests.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
import requests
from sqlalchemy import create_engine, text

from cli.system.ports import free_port
from core.config.settings import Settings
from tests.bench.servers import MODEL, own_servers
from tests.support.polling import wait_until
from tests.support.service import Service

BODY = {"prompt": "Write a Python function that reverses a list", "maxTokens": 32}
#: With greenlets, as our own programs begin.
BARE_VIEW = """
from cli.commands.programs import use_greenlets
use_greenlets()
from models.database.greenlet_wait import wait_in_greenlets
wait_in_greenlets(60)
from tests.bench.bare_view import main
main()
"""
NO_LIMITS = {
    "ENGINE": "echo",
    "LOG_LEVEL": "WARNING",
    "MAX_QUEUE_LENGTH": "10000000",
    "MAX_QUEUE_SECONDS": "100000",
}


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
    """Return requests a second of each, one value a round."""
    rates: dict[str, list[float]] = {"bare view": [], "jobs": [], "generate": []}
    for _ in range(rounds):
        with _bare(settings) as url:
            rates["bare view"].append(load(f"{url}/jobs", {}, at_once, seconds))
        with Service.started(settings, directory, workers=0) as service:
            headers = {"x-api-key": service.make_key(rateLimit=1_000_000)["secret"]}
            rates["jobs"].append(load(f"{service.url}/api/llm/jobs", headers, at_once, seconds))
        _forget_jobs(settings)
        with Service.started(settings, directory) as service:
            headers = {"x-api-key": service.make_key(rateLimit=1_000_000)["secret"]}
            url = f"{service.url}/api/llm/generate"
            rates["generate"].append(load(url, headers, at_once, seconds))
    return rates


def load(
    url: str, headers: dict[str, str], at_once: int, seconds: int, *, is_warm: bool = False
) -> float:
    """Return the requests a second that were answered well, after a moment to warm up."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        lines = ["wrk.method = 'POST'", f"wrk.body = {json.dumps(json.dumps(BODY))}"]
        for name, value in {"Content-Type": "application/json", **headers}.items():
            lines.append(f"wrk.headers['{name}'] = '{value}'")
        script.write("\n".join(lines))
        script.flush()
        command = ["wrk", "-t1", f"-c{at_once}", "--timeout", "30s", "-s", script.name, url]
        if not is_warm:
            subprocess.run([*command, "-d1s"], check=True, capture_output=True)
            time.sleep(0.5)
        ran = subprocess.run(
            [*command, f"-d{seconds}s"], check=True, capture_output=True, text=True
        )
    if "Non-2xx" in ran.stdout or "Socket errors" in ran.stdout:
        raise RuntimeError(ran.stdout)
    found = re.search(r"Requests/sec:\s+([\d.]+)", ran.stdout)
    assert found is not None, ran.stdout
    return float(found[1])


@contextmanager
def _bare(settings: Settings) -> Iterator[str]:
    port = free_port()
    environment = {"PATH": "/usr/bin:/bin", **settings.to_environment(), "API_PORT": str(port)}
    process = subprocess.Popen([sys.executable, "-c", BARE_VIEW], env=environment)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return requests.post(f"{url}/jobs", json=BODY, timeout=5).status_code == 202
        except requests.ConnectionError:
            return False

    try:
        wait_until(answers, 30)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _forget_jobs(settings: Settings) -> None:
    """Empty the line, so that the worker has nothing else to do."""
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
        shown = ", ".join(f"{value:.0f}" for value in values)
        print(f"  {name:10} {rate:6.0f} requests/s, {rate / bare:.2f} of the bare view ({shown})")


if __name__ == "__main__":
    main()
