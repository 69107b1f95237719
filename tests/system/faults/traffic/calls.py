"""The calls of one run's clients; each response is noted."""

from __future__ import annotations

import itertools
import random
from typing import Any

import requests

from tests.system.faults.traffic.notes import Notes, SeenRequest

CONNECT_SECONDS = 2.0
#: The time-out of a response, and of a pause of a stream.
READ_SECONDS = 20.0
WORDS = ("add", "two", "numbers", "sort", "a", "list", "walk", "the", "tree", "in", "order")
#: Errors while a part is away, and of a job that failed with its engine.
EXPLAINED_ERRORS = {
    "database_unavailable",
    "queue_unavailable",
    "overloaded",
    "engine_error",
    "worker_lost",
}
GENERATE, JOBS, BATCHES = "/api/llm/generate", "/api/llm/jobs", "/api/llm/batches"


class Calls:
    """Makes requests and sends them with a key.

    Attributes:
        keys: by the names of their limits, and the one without a limit as "free".
    """

    def __init__(self, url: str, keys: dict[str, dict[str, Any]], seed: int) -> None:
        self.keys = keys
        self.notes = Notes()
        self._url = url
        self._seed = seed
        self._count = itertools.count()

    def new(self, kind: str, draw: random.Random, **values: Any) -> SeenRequest:
        """Make a request without sending it."""
        most = values.pop("most_tokens", 24)
        mark = f"{self._seed}-{next(self._count)}"
        words = " ".join(draw.choice(WORDS) for _ in range(draw.randrange(4, 24)))
        seen = SeenRequest(kind, mark, f"{mark} {words}", draw.randrange(1, most + 1), **values)
        if seen.poison is not None:
            seen.max_tokens = most
            seen.prompt = f"{mark} " + " ".join(WORDS)
        self.notes.seen.append(seen)
        return seen

    def post(
        self, path: str, seen: SeenRequest, *, stream: bool = False
    ) -> requests.Response | None:
        """Send a request; `None` if no whole response came back."""
        headers = {**self._headers(seen.key), **seen.headers}
        body = {**seen.body, "stream": True} if stream else seen.body
        return self._call("POST", path, headers, json=body, stream=stream)

    def call(
        self, method: str, path: str, *, position: str | None = None, stream: bool = False
    ) -> requests.Response | None:
        """Call the API with the key without a limit; `None` if no whole response came back."""
        headers = {"Last-Event-ID": position} if position else {}
        return self._call(method, path, {**self._headers("free"), **headers}, stream=stream)

    def post_file(self, text: str) -> requests.Response:
        """Upload a batch."""
        response = requests.post(
            self._url + BATCHES,
            data=text,
            headers={**self._headers("free"), "Content-Type": "application/jsonl"},
            timeout=(CONNECT_SECONDS, READ_SECONDS),
        )
        self.notes.statuses[f"batch {response.status_code}"] += 1
        return response

    def _headers(self, key: str) -> dict[str, str]:
        return {"x-api-key": self.keys[key]["secret"]}

    def _call(
        self, method: str, path: str, headers: dict[str, str], **options: Any
    ) -> requests.Response | None:
        timeout = (CONNECT_SECONDS, READ_SECONDS)
        try:
            response = requests.request(
                method, self._url + path, headers=headers, timeout=timeout, **options
            )
        except requests.RequestException as error:
            self.notes.statuses[type(error).__name__] += 1
            return None
        code = "" if response.ok else _error_code(response)
        self.notes.statuses[f"{response.status_code} {code}".rstrip()] += 1
        if response.status_code >= 500 and code not in EXPLAINED_ERRORS:
            fault = f"{method} {path}: {response.status_code} {response.text[:300]}"
            self.notes.faults.append(fault)
        return response


def _error_code(response: requests.Response) -> str:
    try:
        return str(response.json()["error"]["code"])
    except (ValueError, KeyError, TypeError, requests.RequestException):
        return "without an error's shape"
