"""One of the answers to a request: its text so far, and how much of it followers were told."""

from __future__ import annotations

from typing import Any

from worker.engine.protocol import FinishReason, TokenLogprob
from worker.text.incremental_text import IncrementalText
from worker.text.logprobs import Logprobs
from worker.text.stop_strings import Scanner


class Choice:
    """A text that grows token by token, at the same cost for each.

    Attributes:
        tokens: how many were counted.
        logprobs: of each counted token, if the request asked for them.
        finish_reason: why it ended, once it has.
    """

    def __init__(
        self,
        *,
        decoded: IncrementalText,
        scanner: Scanner,
        min_tokens: int = 0,
        logprobs: Logprobs | None = None,
    ) -> None:
        self._decoded = decoded
        self._scanner = scanner
        self._min_tokens = min_tokens
        self.logprobs = logprobs
        self.tokens = 0
        self.finish_reason: FinishReason | None = None
        self._pieces: list[str] = []
        self._length = 0
        self._begins: list[int] = []  # where in the text, before the scanner, each token begins
        self._told_pieces = 0
        self._told_length = 0
        self._told_tokens = 0

    @property
    def text(self) -> str:
        """All that is certain of the text."""
        return "".join(self._pieces)

    @property
    def has_ended(self) -> bool:
        return self.finish_reason is not None

    @property
    def has_stopped(self) -> bool:
        """Whether a stop string came."""
        return self._scanner.has_stopped

    def add(self, token_id: int, logprob: TokenLogprob | None = None) -> None:
        """Add a token that was generated. Stop strings count after the first `min_tokens`."""
        self.tokens += 1
        if logprob is not None and self.logprobs is not None:
            self.logprobs.add(token_id, logprob)
            self._begins.append(self._decoded.length)
        piece = self._decoded.push((token_id,))
        self._add_text(self._scanner.push(piece, may_stop=self._counts_stops))

    def end(self, reason: FinishReason) -> None:
        """End the text; a stop string that its last characters complete is the reason then."""
        if not self.has_stopped:
            piece = self._decoded.flush()
            self._add_text(self._scanner.push(piece, may_stop=self._counts_stops))
            self._add_text(self._scanner.flush())
        self.finish_reason = FinishReason.STOP if self.has_stopped else reason

    def tell_again(self) -> None:
        """Let the next `take_new` begin at the begin."""
        self._told_pieces = self._told_length = self._told_tokens = 0

    def take_new(self) -> dict[str, Any] | None:
        """Return what was added since the last call, as a piece of text names it; else `None`.

        A token's log probability is told with its text, and not while that may be a stop string.
        """
        offset, told, tokens = self._told_length, self._told_pieces, self._told_tokens
        certain = self._certain_tokens()
        if (offset, tokens) == (self._length, certain):
            return None
        self._told_pieces, self._told_length = len(self._pieces), self._length
        self._told_tokens = certain
        has_new = self.logprobs is not None and certain > tokens
        return {
            "offset": offset,
            "text": "".join(self._pieces[told:]),
            "token_offset": tokens,
            "logprobs": self.logprobs.show(tokens, certain) if self.logprobs and has_new else None,
        }

    @property
    def _counts_stops(self) -> bool:
        return self.tokens > self._min_tokens

    def _certain_tokens(self) -> int:
        if self.has_ended:
            return len(self._begins)
        certain = self._decoded.length - self._scanner.held
        place = self._told_tokens
        while place < len(self._begins) and self._begins[place] <= certain:
            place += 1
        return place

    def _add_text(self, piece: str) -> None:
        if piece:
            self._pieces.append(storable(piece))
            self._length += len(piece)


def storable(text: str) -> str:
    """Return text that PostgreSQL can keep: a model may write NUL, a column cannot hold it."""
    return text.replace("\x00", "\ufffd")
