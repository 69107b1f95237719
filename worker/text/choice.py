"""One running choice: its text so far, and how much of the text was published."""

from __future__ import annotations

from typing import Any

from worker.engine.protocol import FinishReason, TokenLogprob
from worker.text.incremental_text import IncrementalText
from worker.text.logprobs import ChoiceLogprobs
from worker.text.stop_strings import Scanner


class RunningChoice:
    """A text that grows token by token, at the same cost for each token.

    Attributes:
        tokens: number of counted tokens.
        logprobs: log probabilities of the counted tokens, if the request asked for them.
        finish_reason: why the choice ended; `None` while it runs.
    """

    def __init__(
        self,
        *,
        decoded: IncrementalText,
        scanner: Scanner,
        min_tokens: int = 0,
        logprobs: ChoiceLogprobs | None = None,
    ) -> None:
        self._decoded = decoded
        self._scanner = scanner
        self._min_tokens = min_tokens
        self.logprobs = logprobs
        self.tokens = 0
        self.finish_reason: FinishReason | None = None
        self._pieces: list[str] = []
        self._length = 0
        self._starts: list[int] = []  # offset of each token in the decoded text
        self._published_pieces = 0
        self._published_length = 0
        self._published_tokens = 0

    @property
    def text(self) -> str:
        """The certain part of the text."""
        return "".join(self._pieces)

    @property
    def has_ended(self) -> bool:
        return self.finish_reason is not None

    @property
    def has_stopped(self) -> bool:
        """Whether a stop string ended the text."""
        return self._scanner.has_stopped

    def add(self, token_id: int, logprob: TokenLogprob | None = None) -> None:
        """Add a generated token. Stop strings count after the first `min_tokens`."""
        self.tokens += 1
        if logprob is not None and self.logprobs is not None:
            self.logprobs.add(token_id, logprob)
            self._starts.append(self._decoded.length)
        piece = self._decoded.push((token_id,))
        self._add_text(self._scanner.push(piece, may_stop=self._counts_stops))

    def end(self, reason: FinishReason) -> None:
        """End the text. A stop string in its last characters overrides the reason."""
        if not self.has_stopped:
            piece = self._decoded.flush()
            self._add_text(self._scanner.push(piece, may_stop=self._counts_stops))
            self._add_text(self._scanner.flush())
        self.finish_reason = FinishReason.STOP if self.has_stopped else reason

    def restart_pieces(self) -> None:
        """Make the next `next_piece` start at the beginning of the text."""
        self._published_pieces = self._published_length = self._published_tokens = 0

    def next_piece(self) -> dict[str, Any] | None:
        """Return the text since the last call as fields of a `TextPiece`, or `None`.

        A token's log probability is withheld while its text may belong to a stop string.
        """
        offset, pieces, tokens = (
            self._published_length,
            self._published_pieces,
            self._published_tokens,
        )
        certain = self._certain_tokens()
        if (offset, tokens) == (self._length, certain):
            return None
        self._published_pieces, self._published_length = len(self._pieces), self._length
        self._published_tokens = certain
        has_new = self.logprobs is not None and certain > tokens
        return {
            "offset": offset,
            "text": "".join(self._pieces[pieces:]),
            "token_offset": tokens,
            "logprobs": self.logprobs.serialize(tokens, certain)
            if self.logprobs and has_new
            else None,
        }

    @property
    def _counts_stops(self) -> bool:
        return self.tokens > self._min_tokens

    def _certain_tokens(self) -> int:
        if self.has_ended:
            return len(self._starts)
        certain = self._decoded.length - self._scanner.held
        count = self._published_tokens
        while count < len(self._starts) and self._starts[count] <= certain:
            count += 1
        return count

    def _add_text(self, piece: str) -> None:
        if piece:
            self._pieces.append(storable(piece))
            self._length += len(piece)


def storable(text: str) -> str:
    """Replace NUL, which a model may generate and a PostgreSQL column cannot store."""
    return text.replace("\x00", "\ufffd")
