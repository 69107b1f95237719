"""Concurrent clients of every kind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.polling import wait_until
from tests.system.topology.client import KINDS, Client
from tests.system.topology.records import Records

#: Bound of the last requests, once no new one is made.
LAST_SECONDS = 90.0
#: Bound of the time until every kind of request is served.
SERVED_SECONDS = 60.0
#: A process of the API accepts three files at once.
MOST_BATCHES = 3


@dataclass
class TopologyTraffic:
    """`clients` of each kind, each with a thread, that make one request after the other.

    Attributes:
        without: kinds that no client requests.
    """

    url: str
    admin_url: str
    secret: str
    long_tokens: int
    clients: int = 1
    without: frozenset[str] = frozenset()
    holds_to_document: bool = True
    records: Records = field(default_factory=Records)
    _must_stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[Records]:
        """Run the clients during the block and wait for their last requests."""
        threads = [
            threading.Thread(target=self._run, args=[kind], daemon=True)
            for kind in self._kinds
            for _ in range(min(self.clients, MOST_BATCHES) if kind == "batch" else self.clients)
        ]
        for thread in threads:
            thread.start()
        try:
            yield self.records
        finally:
            self._must_stop.set()
            deadline = time.monotonic() + LAST_SECONDS
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
            if any(thread.is_alive() for thread in threads):
                self.records.add("a client waits for ever")

    def wait_served(self) -> None:
        """Wait until a new request of every kind, except the long one, is done."""
        now = time.monotonic()
        kinds = set(self._kinds) - {"long stream"}
        wait_until(
            lambda: bool(self.records.faults) or kinds <= set(self.records.kinds_since(now)),
            SERVED_SECONDS,
            lambda: f"{self.records.kinds_since(now)} {self.records.refusals[-5:]}",
        )
        assert not self.records.faults, self.records.faults

    @property
    def _kinds(self) -> list[str]:
        return [kind for kind in KINDS if kind not in self.without]

    def _run(self, kind: str) -> None:
        client = Client(
            self.url,
            self.admin_url,
            self.secret,
            self.records,
            self.long_tokens,
            self.holds_to_document,
        )
        while not self._must_stop.is_set():
            try:
                self.records.add(client.request(kind))
            except Exception as error:  # any error of a client is a result, and is reported
                self.records.add(f"{kind}: {type(error).__name__}: {error}")
