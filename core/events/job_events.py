"""News of running jobs, from workers to the API processes that wait for them.

Redis channels:
    job-news   JSON: `{"ended": [job id, …]}` after a COMMIT, or `{"text": [TextPiece, …]}`, what
               a worker's steps added to the jobs that somebody follows

Nothing of it is kept, and any of it can be lost. The row is the truth: whoever waits looks at it
when news may have been missed, and each piece of text says where it belongs, so that a gap is seen.
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
#: Pieces that a slow follower may leave lying; beyond that it begins again from the whole text.
MAX_PIECES = 2048


class TextPiece(NamedTuple):
    """Text that was added to one choice of a job's answer.

    Attributes:
        job: the job's id in hex.
        attempt: the attempt that made it; a later one begins at offset 0 again.
        choice: its index.
        offset: characters of this choice before this piece.
        token_offset: tokens of this choice before it that have log probabilities.
        logprobs: of the tokens since, in the shape of the job's result, if they were asked for.
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
    """What one waiter is told.

    Attributes:
        changed: set when there is something to look at: pieces, or the row.
        pieces: of text not looked at yet, if it was asked for.
        has_gap: pieces were dropped, or may have been missed.
        must_leave: this process is about to end.
        wants_sign: the client may have gone: something sent to it will show.
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
        """Take the pieces that came since the last look."""
        taken = []
        while self.pieces:
            taken.append(self.pieces.popleft())
        return taken


def publish_ends(client: redis.Redis, job_ids: Iterable[UUID]) -> None:
    """Tell that jobs have ended. Call it after the commit."""
    client.publish(CHANNEL, json.dumps({"ended": [job_id.hex for job_id in job_ids]}))


def publish_text(client: redis.Redis, pieces: Iterable[TextPiece]) -> None:
    """Tell what was added to the text of jobs that are followed."""
    client.publish(CHANNEL, json.dumps({"text": list(pieces)}))


class JobEvents:
    """One subscription a process, however many requests wait in it."""

    def __init__(self, client: redis.Redis) -> None:
        self._watches: dict[str, list[JobWatch]] = {}
        self._lock = threading.Lock()
        self._is_leaving = False
        self._subscription = Subscription(
            client, CHANNEL, on_message=self._take, on_connected=self._wake_all
        )

    @contextmanager
    def watch(self, job_id: UUID, *, with_text: bool = False) -> Iterator[JobWatch]:
        """Give what is told of a job; enter before the job is sent."""
        self._subscription.listen()
        watch = JobWatch(with_text, must_end=self._is_leaving)
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

    def leave(self) -> None:
        """Let all who wait go: this process is about to end."""
        self._is_leaving = True
        with self._lock:
            for watches in self._watches.values():
                for watch in watches:
                    watch.must_end = True
                    watch.changed.set()

    def close(self) -> None:
        """Stop listening; whoever still waits only looks at the row."""
        self._subscription.close()

    def _take(self, data: bytes) -> None:
        news = json.loads(data)
        with self._lock:
            for job in news.get("ended", ()):
                for watch in self._watches.get(job, ()):
                    watch.may_have_ended = True
                    watch.changed.set()
            for values in news.get("text", ()):
                for watch in self._watches.get(values[0], ()):
                    if watch.with_text:
                        watch.add(TextPiece(*values))
                        watch.changed.set()

    def _wake_all(self) -> None:
        """Let everyone look: what happened while nobody listened was not told."""
        with self._lock:
            for watches in self._watches.values():
                for watch in watches:
                    watch.may_have_ended = watch.has_gap = True
                    watch.changed.set()
