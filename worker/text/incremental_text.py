"""Token ids to text, piece by piece, and never half a character."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from worker.text.token_bytes import TokenBytes


class IncrementalText:
    """Decodes a growing sequence of ids; the text it gave before never changes.

    A token costs the same wherever it stands. The bytes of a character that is not complete wait.
    """

    def __init__(self, tokens: TokenBytes) -> None:
        self._tokens = tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._has_begun = False
        self.length = 0

    def push(self, ids: Sequence[int]) -> str:
        """Add ids and return the text that is certain now."""
        return self._count(self._decoder.decode(b"".join(map(self._bytes_of, ids))))

    def flush(self) -> str:
        """Return what waited: after the last id, half a character is a replacement character."""
        return self._count(self._decoder.decode(b"", final=True))

    def _bytes_of(self, token_id: int) -> bytes:
        if self._has_begun:
            return self._tokens[token_id]
        data = self._tokens.at_start(token_id)
        self._has_begun = bool(self._tokens[token_id])
        return data

    def _count(self, piece: str) -> str:
        self.length += len(piece)
        return piece
