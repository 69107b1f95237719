"""News that a job has ended, from workers to the API processes that wait for it.

Redis channels:
    job-ends   the id of each job that ended, published after its COMMIT

A message can be lost (Redis restarts, a connection breaks). Then waiters are woken to look at the
row: the row is the truth, this is only the news.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import redis

CHANNEL = "job-ends"
#: How long the listener waits for news before it looks whether it should stop.
POLL_SECONDS = 1.0
#: After a broken connection.
RECONNECT_SECONDS = 0.2

_log = logging.getLogger(__name__)


def publish_end(client: redis.Redis, job_id: UUID) -> None:
    """Tell the waiting API processes. Call it after the commit."""
    client.publish(CHANNEL, job_id.hex)


class JobEnds:
    """One subscription a process, however many requests wait in it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._waiting: dict[str, list[threading.Event]] = {}
        self._lock = threading.Lock()
        self._listener: threading.Thread | None = None
        self._is_closing = False

    @contextmanager
    def watch(self, job_id: UUID) -> Iterator[threading.Event]:
        """Give an event that is set when the job may have ended; enter before the job is sent."""
        self._listen()
        event = threading.Event()
        with self._lock:
            self._waiting.setdefault(job_id.hex, []).append(event)
        try:
            yield event
        finally:
            with self._lock:
                waiters = self._waiting[job_id.hex]
                waiters.remove(event)
                if not waiters:
                    del self._waiting[job_id.hex]

    def close(self) -> None:
        """Stop listening; whoever still waits only looks at the row."""
        self._is_closing = True
        if self._listener is not None:
            self._listener.join(timeout=2 * POLL_SECONDS)

    def _listen(self) -> None:
        with self._lock:
            if self._listener is None or not self._listener.is_alive():
                self._listener = threading.Thread(target=self._run, name="job-ends", daemon=True)
                self._listener.start()

    def _run(self) -> None:
        while not self._is_closing:
            try:
                with self._client.pubsub(ignore_subscribe_messages=False) as subscription:
                    subscription.subscribe(CHANNEL)
                    self._forward(subscription)
            except redis.RedisError as error:
                _log.warning("lost the news of job ends: %s", type(error).__name__)
                threading.Event().wait(RECONNECT_SECONDS)

    def _forward(self, subscription: redis.client.PubSub) -> None:
        while not self._is_closing:
            message = subscription.get_message(timeout=POLL_SECONDS)
            if message is None:
                continue
            if message["type"] == "subscribe":
                self._wake_all()  # whatever ended while nobody listened
            elif message["type"] == "message":
                self._wake(message["data"].decode())

    def _wake(self, job: str) -> None:
        with self._lock:
            for event in self._waiting.get(job, ()):
                event.set()

    def _wake_all(self) -> None:
        with self._lock:
            for events in self._waiting.values():
                for event in events:
                    event.set()
