"""Events of running jobs, from workers to the API processes that wait for them.

Redis channels:
    job-news   JSON: `{"ended": [job id, …]}` after a COMMIT, or `{"text": [TextPiece, …]}`: the
               text that a worker's steps added to jobs that a client follows

Events are not stored, and any event may be lost. The row is the truth: a waiting request reads it
when an event may have been missed. Each piece of text names its offset, so that a gap is detected.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

import redis

from core.redis.subscription import Subscription

CHANNEL = "job-news"
#: The most unread pieces of a slow follower; beyond that it starts again from the whole text.
MAX_PIECES = 2048


class TextPiece(NamedTuple):
    """Text that was added to one choice of a job.

    Attributes:
        job: the job's id in hex.
        attempt: the attempt that generated it; a later attempt starts at offset 0 again.
        choice: the index of the choice.
        offset: the number of characters of this choice before this piece.
        token_offset: the number of earlier tokens of this choice that have log probabilities.
        logprobs: those of the tokens since, in the shape of the job's result, if requested.
    """

    job: str
    attempt: int
    choice: int
    offset: int
    text: str
    token_offset: int = 0
    logprobs: dict[str, list[Any]] | None = None


@dataclass(eq=False, slots=True)
class JobWatch:
    """The events of one job for one waiting request.

    Attributes:
        changed: set when there are pieces to take, or the row should be read.
        pieces: unread text, if the request follows the text.
        has_gap: pieces were dropped, or may have been missed.
        may_have_ended: the row should be read.
        must_end: this process is about to end.
        wants_probe: the client may have disconnected; writing to it shows whether it has.
    """

    with_text: bool
    changed: threading.Event = field(default_factory=threading.Event)
    pieces: deque[TextPiece] = field(default_factory=deque)
    has_gap: bool = False
    may_have_ended: bool = False
    must_end: bool = False
    wants_probe: bool = False

    def request_probe(self) -> None:
        self.wants_probe = True
        self.changed.set()

    def add(self, piece: TextPiece) -> None:
        if len(self.pieces) >= MAX_PIECES:
            self.pieces.clear()
            self.has_gap = True
        self.pieces.append(piece)

    def take(self) -> list[TextPiece]:
        """Take the unread pieces."""
        taken = []
        while self.pieces:
            taken.append(self.pieces.popleft())
        return taken


def publish_ends(client: redis.Redis, job_ids: Iterable[UUID]) -> None:
    """Publish that jobs have ended. Call it after the COMMIT."""
    client.publish(CHANNEL, json.dumps({"ended": [job_id.hex for job_id in job_ids]}))


def publish_text(client: redis.Redis, pieces: Iterable[TextPiece]) -> None:
    """Publish text that was added to followed jobs."""
    client.publish(CHANNEL, json.dumps({"text": list(pieces)}))


class JobEvents:
    """The subscription of one process, shared by all its waiting requests."""

    def __init__(self, client: redis.Redis) -> None:
        self._watches: dict[str, list[JobWatch]] = {}
        self._lock = threading.Lock()
        self._is_ending = False
        self._subscription = Subscription(
            client, CHANNEL, on_message=self._receive, on_connected=self._wake_all
        )

    @contextmanager
    def watch(self, job_id: UUID, *, with_text: bool = False) -> Iterator[JobWatch]:
        """Receive the events of a job during the block; enter it before the job is sent."""
        self._subscription.listen()
        watch = JobWatch(with_text, must_end=self._is_ending)
        with self._lock:
            self._watches.setdefault(job_id.hex, []).append(watch)
        try:
            yield watch
        finally:
            with self._lock:
                watches = self._watches[job_id.hex]
                watches.remove(watch)
                if not watches:
                    del self._watches[job_id.hex]

    def end_waits(self) -> None:
        """Let all waiting requests return: this process is about to end."""
        self._is_ending = True
        with self._lock:
            for watches in self._watches.values():
                for watch in watches:
                    watch.must_end = True
                    watch.changed.set()

    def close(self) -> None:
        """Stop the subscription; requests that still wait only read the row."""
        self._subscription.close()

    def _receive(self, data: bytes) -> None:
        event = json.loads(data)
        with self._lock:
            for job in event.get("ended", ()):
                for watch in self._watches.get(job, ()):
                    watch.may_have_ended = True
                    watch.changed.set()
            for values in event.get("text", ()):
                for watch in self._watches.get(values[0], ()):
                    if watch.with_text:
                        watch.add(TextPiece(*values))
                        watch.changed.set()

    def _wake_all(self) -> None:
        """Let all waiting requests read their rows: events may have been missed."""
        with self._lock:
            for watches in self._watches.values():
                for watch in watches:
                    watch.may_have_ended = watch.has_gap = True
                    watch.changed.set()
