"""Callers that send requests without a pause, and the outcomes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import requests

CALLERS = 8
#: A response whose head NGINX had sent when its API died.
CUT = "cut"


@dataclass(frozen=True)
class Call:
    """A request of the load and its outcome; `status` 0 is a broken connection."""

    method: str
    began: float
    ended: float
    status: int
    code: str


@dataclass
class Load:
    """Callers that read and write without a pause."""

    url: str
    headers: dict[str, str]
    calls: list[Call] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send requests while the block runs."""
        threads = [
            threading.Thread(target=self._repeat, args=[("GET", "POST")[n % 2]])
            for n in range(CALLERS)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(60)

    def _repeat(self, method: str) -> None:
        session = requests.Session()
        while not self._stop.is_set():
            self.calls.append(self._call(session, method))

    def _call(self, session: requests.Session, method: str) -> Call:
        path = "/api/llm/models" if method == "GET" else "/api/llm/jobs"
        body = None if method == "GET" else {"prompt": "one", "maxTokens": 1}
        began = time.monotonic()
        status, code = 0, ""
        try:
            response = session.request(
                method, self.url + path, json=body, headers=self.headers, timeout=30
            )
            status = response.status_code
            code = response.json().get("error", {}).get("code", "")
        except requests.exceptions.ChunkedEncodingError:
            code = CUT
        except (requests.ConnectionError, ValueError) as error:
            code = repr(error)
        return Call(method, began, time.monotonic(), status, code)
