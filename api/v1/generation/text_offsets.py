"""Where in a text each of its tokens begins: `text_offset` of OpenAI's completions."""

from __future__ import annotations

import codecs

from core.prompts.token_name import bytes_of


class TextOffsets:
    """Goes through the tokens of one text. All tokens of one character begin where it does."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._length = 0  # characters that are complete
        self._shown = 0

    def show(self, text: str) -> None:
        """Add text that the client has: nothing begins beyond it, a stop string neither."""
        self._shown += len(text)

    def next(self, name: str) -> int:
        """Return where the next token begins."""
        known = bytes_of(name)
        data = name.encode() if known is None else known
        # The bytes before, which began a character, are none if this token does not go on with it.
        breaks = bool(self._decoder.getstate()[0] and data and data[0] & 0xC0 != 0x80)
        begin = self._length + breaks
        self._length += len(self._decoder.decode(data))
        return min(begin, self._shown)
