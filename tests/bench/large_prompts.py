"""Measures what large prompts cost other requests. `python -m tests.bench.large_prompts`

Two parts, each compared with the same without large prompts in the same run:

1. One API process. Large prompts arrive in a loop, beside requests to `/healthz` and a stream of
   another key at 20 tokens a second: the longest request and the longest gap.
2. Two API processes and twelve senders of 2 MB prompts, of one user and then of twelve users.
   Another key generates 2 tokens at a time, in alternation with and without senders: the medians
   and their ratio, the statuses that the senders get, and the most memory of an API process.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.bench.load.connection import Response, ResponseParser
from tests.bench.servers import MODEL, own_servers
from tests.support.service import Service

GENERATE, HEALTH = "/api/llm/generate", "/healthz"
TOKENS_PER_SECOND = 20.0
#: Bodies of two megabytes, and the largest that the small model's context could hold.
PROMPTS = {
    "2 MB of words": "aA1 " * 500_000,
    "640 kB of words": "aA1 " * 160_000,
    "640 kB of one word": "x" * 640_000,
    "640 kB of spaces": " " * 640_000,
}
SENDERS = 12
ROUNDS = 3
WAIT_SECONDS = 60.0
PAUSE_SECONDS = 0.01


@dataclass
class Seen:
    """The waits and gaps of other requests during a part, in seconds."""

    waits: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    memory_mib: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL, help="a directory with a tokenizer")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each round")
    args = parser.parse_args()
    slow_service = {"ECHO_TOKENS_PER_SECOND": str(TOKENS_PER_SECOND), "API_PROCESSES": "1"}
    with _service(args.model, **slow_service) as service:
        _one_process(service, args.seconds)
    with _service(args.model, API_PROCESSES="2") as service:
        for users in (1, SENDERS):
            _short_generations(service, users, args.seconds)


@contextmanager
def _service(model: Path, **environment: str) -> Iterator[Service]:
    fixed = {"ENGINE": "echo", "LOG_LEVEL": "WARNING"}
    with (
        own_servers(model, **fixed, **environment) as (settings, directory),
        Service.started(settings, directory) as service,
    ):
        yield service


def _one_process(service: Service, seconds: float) -> None:
    reader, sender = (_customer(service, name) for name in ("reader", "sender"))
    print("one process: longest /healthz, longest gap of a stream at 20 tokens a second")
    for name, prompt in {"nothing": "", **PROMPTS}.items():
        bodies = [_request(service, sender, prompt=prompt)] if prompt else []
        seen = Seen()
        with _senders(service, bodies, seen):
            _watch(service, reader, seconds, seen)
        print(
            f"  beside {name}: {1000 * max(seen.waits):.0f} ms, {1000 * max(seen.gaps):.0f} ms; "
            f"statuses {dict(seen.statuses)}",
            flush=True,
        )


def _watch(service: Service, secret: str, seconds: float, seen: Seen) -> None:
    tokens = int(seconds * TOKENS_PER_SECOND)
    body = {"prompt": "word " * tokens, "maxTokens": tokens, "stream": True}
    reading = threading.Thread(
        target=_gaps, args=(service, _request(service, secret, **body), seen)
    )
    reading.start()
    with _connected(service) as ask:
        request = _head("GET", HEALTH, "", 0)
        while reading.is_alive():
            began = time.perf_counter()
            ask(request)
            seen.waits.append(time.perf_counter() - began)
            time.sleep(PAUSE_SECONDS)
    reading.join()


def _gaps(service: Service, request: bytes, seen: Seen) -> None:
    """Read a stream, and note the time between two of its pieces from the first text on."""
    parser, last = ResponseParser(), 0.0
    with _socket(service) as connection:
        connection.sendall(request)
        while data := connection.recv(65536):
            is_whole = parser.receive(data)
            now = time.perf_counter()
            if last:
                seen.gaps.append(now - last)
            if parser.response.first_at:
                last = now
            if is_whole:
                return


def _short_generations(service: Service, users: int, seconds: float) -> None:
    secret = _customer(service, f"short{users}")
    prompt = PROMPTS["2 MB of words"]
    names = [_customer(service, f"{users}-{number}") for number in range(users)]
    bodies = [_request(service, names[n % users], prompt=prompt) for n in range(SENDERS)]
    request = _request(service, secret, prompt="two words", maxTokens=2)
    alone, beside = Seen(), Seen()
    for _ in range(ROUNDS):
        _ask_for(service, request, seconds, alone)
        with _senders(service, bodies, beside):
            _ask_for(service, request, seconds, beside)
    medians = [1000 * statistics.median(seen.waits) for seen in (alone, beside)]
    print(
        f"{SENDERS} senders of {users} users: 2-token generations take {medians[0]:.1f} ms alone "
        f"and {medians[1]:.1f} ms beside them, ratio {medians[1] / medians[0]:.2f}; longest "
        f"{1000 * max(alone.waits):.0f} and {1000 * max(beside.waits):.0f} ms; senders' statuses "
        f"{dict(beside.statuses)}; memory at most {beside.memory_mib:.0f} MiB a process",
        flush=True,
    )


def _ask_for(service: Service, request: bytes, seconds: float, seen: Seen) -> None:
    ends = time.perf_counter() + seconds
    with _connected(service) as ask:
        while time.perf_counter() < ends:
            began = time.perf_counter()
            response = ask(request)
            seen.waits.append(time.perf_counter() - began)
            if response.status != 200:
                raise RuntimeError(response.body.decode())
            time.sleep(PAUSE_SECONDS)


@contextmanager
def _senders(service: Service, bodies: Sequence[bytes], seen: Seen) -> Iterator[None]:
    """Send each body in a loop from another process, and sample the API's memory."""
    if not bodies:
        yield
        return
    context = multiprocessing.get_context("spawn")
    must_stop, reports = context.Event(), context.Queue()
    child = context.Process(
        target=_send_all, args=(service.settings.api_port, bodies, must_stop, reports)
    )
    child.start()
    watching = threading.Thread(target=_watch_memory, args=(service, child, seen))
    watching.start()
    reports.get(timeout=WAIT_SECONDS)  # the threads of the process run
    try:
        yield
    finally:
        must_stop.set()
        seen.statuses.update(reports.get(timeout=WAIT_SECONDS))
        child.join(WAIT_SECONDS)
        watching.join()


def _send_all(port: int, bodies: Sequence[bytes], must_stop: Any, reports: Any) -> None:
    statuses: Counter[int] = Counter()

    def send(body: bytes) -> None:
        while not must_stop.is_set():
            with _socket_to(port) as connection:
                while not must_stop.is_set():
                    response = _asked(connection, body)
                    statuses[response.status] += 1
                    if response.headers.get(b"connection") == b"close":
                        break

    threads = [threading.Thread(target=send, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    reports.put("sending")
    for thread in threads:
        thread.join()
    reports.put(statuses)


def _watch_memory(service: Service, child: Any, seen: Seen) -> None:
    assert service.api is not None
    processes = psutil.Process(service.api.pid).children()
    while child.is_alive():
        most = max(process.memory_info().rss for process in processes) / 2**20
        seen.memory_mib = max(seen.memory_mib, most)
        time.sleep(0.05)


def _customer(service: Service, name: str) -> str:
    """Add a user with a key; return the key's secret."""
    body = {"email": f"{name}@example.com", "password": "a long password"}
    user = service.call("POST", "/api/auth/register", json=body).json()["user"]
    return str(service.make_key(userId=user["id"], rateLimit=1_000_000)["secret"])


def _request(service: Service, secret: str, **body: Any) -> bytes:
    data = json.dumps({"maxTokens": 1, **body}).encode()
    return _head("POST", GENERATE, secret, len(data)) + data


def _head(method: str, path: str, secret: str, length: int) -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: bench\r\nx-api-key: {secret}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


@contextmanager
def _connected(service: Service) -> Iterator[Callable[[bytes], Response]]:
    with _socket(service) as connection:
        yield lambda request: _asked(connection, request)


def _socket(service: Service) -> socket.socket:
    return _socket_to(service.settings.api_port)


def _socket_to(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)


def _asked(connection: socket.socket, request: bytes) -> Response:
    connection.sendall(request)
    parser = ResponseParser()
    while not parser.receive(connection.recv(65536)):
        pass
    return parser.response


if __name__ == "__main__":
    main()
