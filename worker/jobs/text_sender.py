"""Sends the texts that are followed to Redis: the delivery of answers never waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence

import redis

from core.events.job_events import TextPiece, publish_text

_log = logging.getLogger(__name__)

#: Pieces that wait for Redis at most; whoever follows asks for what was dropped.
MAX_PIECES = 10_000
#: Characters of one message, about: a subscriber that is sent too much at once is cut off.
MAX_CHARACTERS = 500_000
#: What one token's log probabilities take of a message, about.
LOGPROBS_CHARACTERS = 600
POLL_SECONDS = 0.5
JOIN_SECONDS = 5.0


class TextSender:
    """One message for all that was added since the last one was sent."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._pieces: list[TextPiece] = []
        self._changed = threading.Condition()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="text-sender", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Send what waits, and stop."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._thread.join(timeout=JOIN_SECONDS)

    def tell(self, pieces: Sequence[TextPiece]) -> None:
        """Queue pieces to be sent; returns at once."""
        with self._changed:
            if len(self._pieces) + len(pieces) <= MAX_PIECES:
                self._pieces += pieces
            self._changed.notify()

    def _run(self) -> None:
        while pieces := self._take():
            try:
                for some in _messages(pieces):
                    publish_text(self._client, some)
            except redis.RedisError as error:
                _log.warning("text could not be told: %s", type(error).__name__)
            except Exception:
                # Broad on purpose: one bad piece must not end the telling for all.
                _log.exception("text could not be told")

    def _take(self) -> list[TextPiece]:
        """Wait for pieces; none are left when it is stopping."""
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
