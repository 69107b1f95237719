"""Decodes token ids to text piece by piece, and never returns half a character."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from worker.text.token_bytes import TokenBytes


class IncrementalText:
    """Decodes a growing sequence of ids; text that was returned never changes.

    Each token costs the same at every position. Bytes of an incomplete character are withheld.
    """

    def __init__(self, tokens: TokenBytes) -> None:
        self._tokens = tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._has_started = False
        self.length = 0

    def push(self, ids: Sequence[int]) -> str:
        """Add ids and return the text that became certain."""
        return self._count(self._decoder.decode(b"".join(map(self._bytes_of, ids))))

    def flush(self) -> str:
        """Return the withheld bytes; half a character is a replacement character."""
        return self._count(self._decoder.decode(b"", final=True))

    def _bytes_of(self, token_id: int) -> bytes:
        if self._has_started:
            return self._tokens[token_id]
        data = self._tokens.at_start(token_id)
        self._has_started = bool(self._tokens[token_id])
        return data

    def _count(self, piece: str) -> str:
        self.length += len(piece)
        return piece
