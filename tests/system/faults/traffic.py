"""Clients of every kind, which note all that they see."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

import requests

from tests.system.faults.engine import Poison
from tests.system.faults.instance import Instance

CONNECT_SECONDS = 2.0
#: A client gives up an answer, or a stream that says nothing, after this long.
READ_SECONDS = 20.0
#: Between two requests of a client, at most.
PAUSE_SECONDS = 0.3
JOIN_SECONDS = 60.0
BATCH_LINES = 6
WORDS = ("add", "two", "numbers", "sort", "a", "list", "walk", "the", "tree", "in", "order")
#: Of the keys with limits.
RATE_LIMIT, IN_FLIGHT_LIMIT, MONTHLY_TOKENS = 25, 3, 700
IN_FLIGHT_CLIENTS = 2
#: What the service may say when parts of it are away, and of a job that failed with its engine.
EXPLAINED_ERRORS = {
    "database_unavailable",
    "queue_unavailable",
    "overloaded",
    "engine_error",
    "worker_lost",
}
GENERATE, JOBS, BATCHES = "/api/llm/generate", "/api/llm/jobs", "/api/llm/batches"


@dataclass
class Seen:
    """What a client knows of one request.

    Attributes:
        job: its id, once it was told.
        status: the last that it was told of the job.
        text: of a stream, what came so far; else the answer.
        mark: stands in the job's metadata.
    """

    kind: str
    mark: str
    prompt: str
    max_tokens: int
    is_repeatable: bool = False
    poison: Poison | None = None
    job: str | None = None
    status: str | None = None
    text: str = ""
    is_whole: bool = False
    usage: dict[str, int] | None = None

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "prompt": self.prompt,
            "maxTokens": self.max_tokens,
            "metadata": {"mark": self.mark},
        }
        return body if self.poison is None else {**body, "seed": int(self.poison)}

    @property
    def headers(self) -> dict[str, str]:
        return {"Idempotency-Key": self.mark} if self.is_repeatable else {}


@dataclass
class Accepted:
    """A request that a limited key's client was granted, by the clock that all share."""

    sent_at: float
    received_at: float


@dataclass
class SentBatch:
    id: str
    marks: list[str]


@dataclass
class Notes:
    """What all clients of a run saw."""

    seen: list[Seen] = field(default_factory=list)
    batches: list[SentBatch] = field(default_factory=list)
    granted: list[Accepted] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class Traffic:
    """The clients of one run; each is a thread."""

    def __init__(self, instance: Instance, seed: int) -> None:
        self._url = instance.url
        self._seed = seed
        self._is_over = threading.Event()
        self._count = itertools.count()
        self.notes = Notes()
        self.keys = {
            "free": instance.make_key(),
            "rate": instance.make_key(rateLimit=RATE_LIMIT),
            "in flight": instance.make_key(maxInFlight=IN_FLIGHT_LIMIT),
            "month": instance.make_key(monthlyTokenLimit=MONTHLY_TOKENS),
        }
        clients: list[Callable[[random.Random], None]] = [
            *[self._synchronous] * 2,
            *[self._job] * 2,
            *[self._stream] * 3,
            self._batch,
            self._cancelled,
            self._rate_limited,
            *[self._in_flight_limited] * IN_FLIGHT_CLIENTS,
            self._month_limited,
        ]
        self._threads = [
            threading.Thread(target=self._run, args=(client, place), daemon=True)
            for place, client in enumerate(clients)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Make no new requests, and wait for those under way."""
        self._is_over.set()
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                self.notes.faults.append(f"a client still waits after {JOIN_SECONDS:.0f} s")

    def send_poison(self, poison: Poison) -> None:
        """Send one request that breaks its engine; with the service away it is not sent."""
        seen = self._new("poison", random.Random(self._seed), poison=poison)
        answer = self._call("POST", JOBS, seen=seen)
        if answer is not None and answer.status_code == 202:
            self._note_job(seen, answer.json())

    def _run(self, client: Callable[[random.Random], None], place: int) -> None:
        draw = random.Random(self._seed * 1000 + place)
        while not self._is_over.is_set():
            try:
                client(draw)
            except Exception as error:  # whatever a client cannot take is a fault of the run
                self.notes.faults.append(f"a client could not go on: {error!r}")
            self._is_over.wait(draw.uniform(0, PAUSE_SECONDS))

    # The clients.

    def _synchronous(self, draw: random.Random) -> None:
        seen = self._new("sync", draw)
        answer = self._call("POST", GENERATE, seen=seen)
        if answer is not None and answer.status_code == 200:
            self._note_answer(seen, answer.json())
        elif answer is not None and answer.status_code == 202:
            self._note_job(seen, answer.json())
            self._follow_by_polling(seen)

    def _job(self, draw: random.Random) -> None:
        """Make a job under an Idempotency-Key, again until it is accepted, and wait for its end."""
        seen = self._new("job", draw, is_repeatable=True)
        while not self._is_over.is_set():
            answer = self._call("POST", JOBS, seen=seen)
            if answer is not None and answer.status_code == 202:
                self._note_job(seen, answer.json())
                self._follow_by_polling(seen)
                return
            self._is_over.wait(draw.uniform(0, PAUSE_SECONDS))

    def _follow_by_polling(self, seen: Seen) -> None:
        while seen.status in (None, "queued", "running") and not self._is_over.is_set():
            answer = self._call("GET", f"{JOBS}/{seen.job}?wait=5")
            if answer is not None and answer.status_code == 200:
                self._note_job(seen, answer.json())
            else:
                self._is_over.wait(PAUSE_SECONDS)

    def _stream(self, draw: random.Random) -> None:
        """Follow a stream to its end, from where it was whenever it breaks off."""
        seen = self._new("stream", draw, is_repeatable=draw.random() < 0.5)
        position = self._read_stream(seen, "POST", GENERATE, None)
        while seen.job is not None and not seen.is_whole and not self._is_over.is_set():
            self._is_over.wait(draw.uniform(0, PAUSE_SECONDS))
            position = self._read_stream(seen, "GET", f"{JOBS}/{seen.job}/stream", position)

    def _read_stream(self, seen: Seen, method: str, path: str, position: str | None) -> str | None:
        """Read events until the stream ends; return where the client stands then."""
        headers = {"Last-Event-ID": position} if position else {}
        json_body = {**seen.body, "stream": True} if method == "POST" else None
        answer = self._call(method, path, seen=seen, headers=headers, body=json_body, stream=True)
        if answer is None:
            return position
        with closing(answer), suppress(requests.RequestException):
            if answer.status_code != 200:
                return position
            for event_id, data in _events(answer):
                if data == "[DONE]":
                    seen.is_whole = True
                    return position
                said = json.loads(data)
                if "error" in said:
                    self.notes.statuses[f"stream {said['error']['code']}"] += 1
                    seen.is_whole = True  # told so: there is nothing more to come
                    return position
                seen.job = said["id"]
                seen.text += said["choices"][0]["text"]
                seen.usage = said.get("usage") or seen.usage
                position = event_id
        return position

    def _batch(self, draw: random.Random) -> None:
        lines = [self._new("line", draw) for _ in range(BATCH_LINES)]
        file = "".join(json.dumps({"custom_id": one.mark, **one.body}) + "\n" for one in lines)
        with suppress(requests.RequestException):
            answer = requests.post(
                self._url + BATCHES,
                data=file,
                headers={**self._headers("free"), "Content-Type": "application/jsonl"},
                timeout=(CONNECT_SECONDS, READ_SECONDS),
            )
            self.notes.statuses[f"batch {answer.status_code}"] += 1
            if answer.status_code == 201:
                sent = SentBatch(answer.json()["id"], [one.mark for one in lines])
                self.notes.batches.append(sent)
        self._is_over.wait(draw.uniform(1, 3))

    def _cancelled(self, draw: random.Random) -> None:
        seen = self._new("cancelled", draw)
        answer = self._call("POST", JOBS, seen=seen)
        if answer is None or answer.status_code != 202:
            return
        self._note_job(seen, answer.json())
        self._is_over.wait(draw.uniform(0, 0.6))
        answer = self._call("DELETE", f"{JOBS}/{seen.job}")
        if answer is not None and answer.status_code == 200:
            self._note_job(seen, answer.json())

    def _rate_limited(self, draw: random.Random) -> None:
        sent_at = time.time()
        seen = self._new("rate", draw, most_tokens=2)
        answer = self._call("POST", JOBS, seen=seen, key="rate")
        if answer is not None and answer.status_code == 202:
            self.notes.granted.append(Accepted(sent_at, time.time()))
            self._note_job(seen, answer.json())

    def _in_flight_limited(self, draw: random.Random) -> None:
        self._send_under("in flight", draw)

    def _month_limited(self, draw: random.Random) -> None:
        self._send_under("month", draw)

    def _send_under(self, key: str, draw: random.Random) -> None:
        seen = self._new(key, draw)
        answer = self._call("POST", JOBS, seen=seen, key=key)
        if answer is not None and answer.status_code == 202:
            self._note_job(seen, answer.json())

    # What they share.

    def _new(self, kind: str, draw: random.Random, **values: Any) -> Seen:
        most = values.pop("most_tokens", 24)
        mark = f"{self._seed}-{next(self._count)}"
        words = " ".join(draw.choice(WORDS) for _ in range(draw.randrange(4, 24)))
        seen = Seen(kind, mark, f"{mark} {words}", draw.randrange(1, most + 1), **values)
        if seen.poison is not None:
            seen.max_tokens = most
            seen.prompt = f"{mark} " + " ".join(WORDS)
        self.notes.seen.append(seen)
        return seen

    def _headers(self, key: str) -> dict[str, str]:
        return {"x-api-key": self.keys[key]["secret"]}

    def _call(
        self,
        method: str,
        path: str,
        *,
        seen: Seen | None = None,
        key: str = "free",
        headers: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        stream: bool = False,
    ) -> requests.Response | None:
        """Call the API once; `None` if nothing whole came back."""
        if seen is not None and kind_of_key(seen.kind) != key:
            raise ValueError(f"{seen.kind} is not sent under {key}")
        own = seen.headers if seen is not None and method == "POST" else {}
        if body is None and seen is not None and method == "POST":
            body = seen.body
        try:
            answer = requests.request(
                method,
                self._url + path,
                json=body,
                headers={**self._headers(key), **own, **(headers or {})},
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                stream=stream,
            )
        except requests.RequestException as error:
            self.notes.statuses[type(error).__name__] += 1
            return None
        code = "" if answer.ok else _error_code(answer)
        self.notes.statuses[f"{answer.status_code} {code}".rstrip()] += 1
        if answer.status_code >= 500 and code not in EXPLAINED_ERRORS:
            self.notes.faults.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer

    def _note_answer(self, seen: Seen, said: dict[str, Any]) -> None:
        seen.job, seen.status, seen.is_whole = said["id"], "succeeded", True
        seen.text, seen.usage = said["choices"][0]["text"], said["usage"]

    def _note_job(self, seen: Seen, said: dict[str, Any]) -> None:
        if seen.job not in (None, said["id"]):
            self.notes.faults.append(f"{seen.mark} is {seen.job}, and later {said['id']}")
        if seen.status not in (None, "queued", "running", said["status"]):
            self.notes.faults.append(f"{said['id']} was {seen.status}, later {said['status']}")
        seen.job, seen.status = said["id"], said["status"]
        if said["status"] == "succeeded" and said.get("result"):
            result = said["result"]
            seen.text, seen.usage = result["choices"][0]["text"], result["usage"]
            seen.is_whole = True


def kind_of_key(kind: str) -> str:
    """Return which key a kind of request is sent under."""
    return kind if kind in ("rate", "in flight", "month") else "free"


def _error_code(answer: requests.Response) -> str:
    try:
        return str(answer.json()["error"]["code"])
    except (ValueError, KeyError, TypeError, requests.RequestException):
        return "without an error's shape"


def _events(answer: requests.Response) -> Iterator[tuple[str | None, str]]:
    """Yield the events of a stream: id and data."""
    event_id: str | None = None
    for line in answer.iter_lines(chunk_size=1):
        name, _, value = line.decode().partition(": ")
        if name == "id":
            event_id = value
        elif name == "data":
            yield event_id, value
