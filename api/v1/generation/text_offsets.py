"""Computes `text_offset` of OpenAI's completions: where each token begins in the text."""

from __future__ import annotations

import codecs

from core.prompts.token_name import bytes_of


class TextOffsets:
    """Offsets of the tokens of one text. All tokens of one character have its offset."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._length = 0  # characters that are complete
        self._sent = 0

    def add_sent(self, text: str) -> None:
        """Add text that was sent: no offset is beyond it, not even that of a stop string."""
        self._sent += len(text)

    def next(self, name: str) -> int:
        """Return the offset of the next token, in characters."""
        known = bytes_of(name)
        data = name.encode() if known is None else known
        # A token that does not continue an incomplete character ends it: it becomes U+FFFD.
        breaks = bool(self._decoder.getstate()[0] and data and data[0] & 0xC0 != 0x80)
        begin = self._length + breaks
        self._length += len(self._decoder.decode(data))
        return min(begin, self._sent)
