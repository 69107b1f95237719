"""Clients of every kind, which note all that they receive."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress

import requests

from tests.support.http.sse import events
from tests.system.faults.installation.breakable import BreakableInstallation
from tests.system.faults.installation.engine import Poison
from tests.system.faults.traffic.calls import GENERATE, JOBS, Calls
from tests.system.faults.traffic.notes import (
    CONCURRENCY,
    CONCURRENT_CLIENTS,
    MONTHLY_TOKENS,
    RATE_LIMIT,
    Granted,
    Notes,
    SeenRequest,
    SentBatch,
)

#: Between two requests of a client, at most.
PAUSE_SECONDS = 0.3
JOIN_SECONDS = 60.0
BATCH_LINES = 6


class FaultTraffic:
    """The clients of one run; each is a thread."""

    def __init__(self, installation: BreakableInstallation, seed: int) -> None:
        self._seed = seed
        self._is_over = threading.Event()
        keys = {
            "free": installation.make_key(),
            "rate": installation.make_key(rateLimit=RATE_LIMIT),
            "in flight": installation.make_key(maxInFlight=CONCURRENCY),
            "month": installation.make_key(monthlyTokenLimit=MONTHLY_TOKENS),
        }
        self._calls = Calls(installation.url, keys, seed)
        clients: list[Callable[[random.Random], None]] = [
            *[self._synchronous] * 2,
            *[self._job] * 2,
            *[self._stream] * 3,
            self._batch,
            self._cancelled,
            self._rate_limited,
            *[self._concurrency_limited] * CONCURRENT_CLIENTS,
            self._month_limited,
        ]
        self._threads = [
            threading.Thread(target=self._run, args=(client, number), daemon=True)
            for number, client in enumerate(clients)
        ]

    @property
    def notes(self) -> Notes:
        return self._calls.notes

    @property
    def key_ids(self) -> dict[str, str]:
        """The public ids of the keys, by the names of their limits."""
        return {name: key["id"] for name, key in self._calls.keys.items()}

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Make no new requests, and wait for those that run."""
        self._is_over.set()
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                self.notes.faults.append(f"a client still waits after {JOIN_SECONDS:.0f} s")

    def send_poison(self, poison: Poison) -> None:
        """Send one request that breaks its engine, if the service takes it."""
        self._send(self._calls.new("poison", random.Random(self._seed), poison=poison))

    def _run(self, client: Callable[[random.Random], None], number: int) -> None:
        draw = random.Random(self._seed * 1000 + number)
        while not self._is_over.is_set():
            try:
                client(draw)
            except Exception as error:  # a response that breaks a client is a fault of the run
                self.notes.faults.append(f"a client could not continue: {error!r}")
            self._pause(draw)

    def _pause(self, draw: random.Random) -> None:
        self._is_over.wait(draw.uniform(0, PAUSE_SECONDS))

    def _send(self, seen: SeenRequest) -> bool:
        """Send a request for a job; return whether it was accepted."""
        response = self._calls.post(JOBS, seen)
        if response is None or response.status_code != 202:
            return False
        self.notes.add_job(seen, response.json())
        return True

    def _synchronous(self, draw: random.Random) -> None:
        seen = self._calls.new("sync", draw)
        response = self._calls.post(GENERATE, seen)
        if response is not None and response.status_code == 200:
            self.notes.add_completion(seen, response.json())
        elif response is not None and response.status_code == 202:
            self.notes.add_job(seen, response.json())
            self._poll(seen)

    def _job(self, draw: random.Random) -> None:
        """Send a job with an Idempotency-Key until it is accepted, and wait for its end."""
        seen = self._calls.new("job", draw, is_repeatable=True)
        while not self._is_over.is_set():
            if self._send(seen):
                self._poll(seen)
                return
            self._pause(draw)

    def _poll(self, seen: SeenRequest) -> None:
        while seen.status in (None, "queued", "running") and not self._is_over.is_set():
            response = self._calls.call("GET", f"{JOBS}/{seen.job}?wait=5")
            if response is not None and response.status_code == 200:
                self.notes.add_job(seen, response.json())
            else:
                self._is_over.wait(PAUSE_SECONDS)

    def _stream(self, draw: random.Random) -> None:
        """Follow a stream to its end; resume it at its position after each break."""
        seen = self._calls.new("stream", draw, is_repeatable=draw.random() < 0.5)
        response = self._calls.post(GENERATE, seen, stream=True)
        position = self._read_stream(seen, response, None)
        while seen.job is not None and not seen.is_whole and not self._is_over.is_set():
            self._pause(draw)
            path = f"{JOBS}/{seen.job}/stream"
            response = self._calls.call("GET", path, position=position, stream=True)
            position = self._read_stream(seen, response, position)

    def _read_stream(
        self, seen: SeenRequest, response: requests.Response | None, position: str | None
    ) -> str | None:
        """Read events until the stream ends or breaks; return the client's position."""
        if response is None:
            return position
        with closing(response), suppress(requests.RequestException):
            if response.status_code != 200:
                return position
            for event in events(response):
                if event.data == "[DONE]":
                    seen.is_whole = True
                    return position
                body = event.json
                if "error" in body:
                    self.notes.statuses[f"stream {body['error']['code']}"] += 1
                    seen.is_whole = True  # nothing follows an error
                    return position
                seen.job = body["id"]
                seen.text += body["choices"][0]["text"]
                seen.usage = body.get("usage") or seen.usage
                position = event.id or position
        return position

    def _batch(self, draw: random.Random) -> None:
        lines = [self._calls.new("line", draw) for _ in range(BATCH_LINES)]
        file = "".join(json.dumps({"custom_id": one.mark, **one.body}) + "\n" for one in lines)
        with suppress(requests.RequestException):
            response = self._calls.post_file(file)
            if response.status_code == 201:
                sent = SentBatch(response.json()["id"], [one.mark for one in lines])
                self.notes.batches.append(sent)
        self._is_over.wait(draw.uniform(1, 3))

    def _cancelled(self, draw: random.Random) -> None:
        seen = self._calls.new("cancelled", draw)
        if not self._send(seen):
            return
        self._is_over.wait(draw.uniform(0, 0.6))
        response = self._calls.call("DELETE", f"{JOBS}/{seen.job}")
        if response is not None and response.status_code == 200:
            self.notes.add_job(seen, response.json())

    def _rate_limited(self, draw: random.Random) -> None:
        sent_at = time.time()
        if self._send(self._calls.new("rate", draw, most_tokens=2)):
            self.notes.granted.append(Granted(sent_at, time.time()))

    def _concurrency_limited(self, draw: random.Random) -> None:
        self._send(self._calls.new("in flight", draw))

    def _month_limited(self, draw: random.Random) -> None:
        self._send(self._calls.new("month", draw))
