"""Measures a large upload beside other requests. `python -m tests.bench.batches.uploads`

One API process with its own servers, as durable as in production. The figures are the duration of
the upload, the growth of memory, the latency of other requests during the upload, and the rate at
which results are sent.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import requests

from models.database.base import open_database, sessions
from tests.bench.servers import MODEL, own_servers
from tests.support.http.batch_files import JSONL, PATH, jobs_of, succeed
from tests.support.service import Service

WORDS = ("list", "function", "value", "return", "index", "string", "number", "class", "loop")
CALL_SECONDS = 300.0
#: Lines that one transaction completes.
ENDED_AT_ONCE = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=50_000)
    parser.add_argument("--words", type=int, default=40, help="of each prompt")
    args = parser.parse_args()
    environment = {"ENGINE": "echo", "API_PROCESSES": "1", "MODEL_NAME": "small"}
    with (
        own_servers(MODEL, **environment) as (settings, directory),
        Service.started(settings, directory, workers=0) as service,
        tempfile.TemporaryFile() as file,
    ):
        size = sum(file.write(line) for line in lines_of(args.lines, args.words))
        print(f"{args.lines} lines, {size / 2**20:.1f} MiB")
        headers = {"x-api-key": service.make_key()["secret"]}
        send_file(service, headers, b'{"prompt": "x"}')  # the first upload loads code
        with Others(service):
            time.sleep(3)  # requests of others load code too
        file.seek(0)
        with Others(service) as others:
            began = time.monotonic()
            batch = send_file(service, headers, file)
            print(f"accepted in {time.monotonic() - began:.1f} s")
        print(f"memory grew by {others.growth / 2**20:.0f} MiB")
        _send_results(service, headers, batch)


class Others:
    """Requests of others during a block, and the growth of the API process's memory."""

    def __init__(self, service: Service) -> None:
        assert service.api is not None
        self._service = service
        (self._process,) = psutil.Process(service.api.pid).children()
        self._before = self._process.memory_info().rss
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._call)
        self._headers = service.sign_in_admin()
        self._seconds: dict[str, list[float]] = {"/healthz": [], "/api/llm/jobs?limit=1": []}
        self.growth = 0

    def __enter__(self) -> Others:
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._is_over.set()
        self._thread.join()
        for path, seconds in self._seconds.items():
            ms = [1000 * one for one in sorted(seconds)]
            p50, p99 = ms[len(ms) // 2], ms[len(ms) * 99 // 100]
            print(f"{path}: {len(ms)} calls, p50 {p50:.1f}, p99 {p99:.1f}, most {ms[-1]:.1f} ms")

    def _call(self) -> None:
        with requests.Session() as session:
            while not self._is_over.wait(0.01):
                for path, seconds in self._seconds.items():
                    began = time.monotonic()
                    response = session.get(self._service.url + path, headers=self._headers)
                    response.raise_for_status()
                    seconds.append(time.monotonic() - began)
                memory = self._process.memory_info().rss - self._before
                self.growth = max(self.growth, memory)


def _send_results(service: Service, headers: dict[str, str], batch: dict[str, Any]) -> None:
    engine = open_database(service.settings)
    database = sessions(engine)
    jobs = jobs_of(database, batch)
    for start in range(0, len(jobs), ENDED_AT_ONCE):
        succeed(database, jobs[start : start + ENDED_AT_ONCE], "an answer of some words " * 20)
    engine.dispose()
    path = f"{service.url}{PATH}/{batch['id']}/results"
    with Others(service) as others:
        began = time.monotonic()
        data = requests.get(path, headers=headers, timeout=CALL_SECONDS).content
        seconds = time.monotonic() - began
    lines = data.count(b"\n")
    print(f"{lines} results, {len(data) / 2**20:.0f} MiB in {seconds:.1f} s")
    print(f"memory grew by {others.growth / 2**20:.0f} MiB")


def send_file(service: Service, headers: dict[str, str], file: Any) -> dict[str, Any]:
    """Upload a file; return its batch."""
    response = requests.post(
        service.url + PATH, data=file, headers={**headers, **JSONL}, timeout=CALL_SECONDS
    )
    assert response.status_code == 201, response.text
    return dict(response.json())


def lines_of(count: int, words: int) -> Iterator[bytes]:
    """Yield the lines of a file, with prompts of `words` words."""
    draw = random.Random(7)
    for i in range(count):
        prompt = " ".join(draw.choices(WORDS, k=words))
        line = {"custom_id": f"c{i}", "prompt": prompt, "maxTokens": 64}
        yield json.dumps(line).encode() + b"\n"


if __name__ == "__main__":
    main()
