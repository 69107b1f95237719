"""Publishes the texts of followed jobs, so that delivery never waits for Redis."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence

import redis

from core.events.job_events import TextPiece, publish_text

_log = logging.getLogger(__name__)

#: Most pieces that wait for Redis; followers request the whole text when one is dropped.
MAX_PIECES = 10_000
#: Approximate size of one message: Redis disconnects a subscriber that is sent too much at once.
MAX_CHARACTERS = 500_000
#: Approximate size of one token's log probabilities in a message.
LOGPROBS_CHARACTERS = 600
POLL_SECONDS = 0.5
JOIN_SECONDS = 5.0


class TextPublisher:
    """Publishes one message for all pieces that were added since the last message."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._pieces: list[TextPiece] = []
        self._changed = threading.Condition()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="text-publisher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Publish the waiting pieces, and stop."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._thread.join(timeout=JOIN_SECONDS)

    def publish(self, pieces: Sequence[TextPiece]) -> None:
        """Queue pieces; return at once."""
        with self._changed:
            if len(self._pieces) + len(pieces) <= MAX_PIECES:
                self._pieces += pieces
            self._changed.notify()

    def _run(self) -> None:
        while pieces := self._wait():
            try:
                for message in _messages(pieces):
                    publish_text(self._client, message)
            except redis.RedisError as error:
                _log.warning("cannot publish text: %s", type(error).__name__)
            except Exception:
                # Broad on purpose: one bad piece must not stop the texts of all jobs.
                _log.exception("cannot publish text")

    def _wait(self) -> list[TextPiece]:
        """Wait for pieces; return none when the publisher is stopping."""
        with self._changed:
            while not self._pieces and not self._is_stopping:
                self._changed.wait(POLL_SECONDS)
            pieces, self._pieces = self._pieces, []
            return pieces


def _messages(pieces: Sequence[TextPiece]) -> Iterator[list[TextPiece]]:
    message: list[TextPiece] = []
    size = 0
    for piece in pieces:
        logprobs = len(piece.logprobs["tokens"]) if piece.logprobs else 0
        length = len(piece.text) + LOGPROBS_CHARACTERS * logprobs
        if message and size + length > MAX_CHARACTERS:
            yield message
            message, size = [], 0
        message.append(piece)
        size += length
    if message:
        yield message
