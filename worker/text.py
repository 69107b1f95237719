"""Token ids to text, piece by piece: no half characters, and never a part of a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]

#: What a decoder gives for bytes that are not (yet) a character.
_REPLACEMENT = "\ufffd"


class IncrementalText:
    """Decodes a growing sequence of ids; what it gave before never changes.

    A decoder may need the ids before to space a piece rightly, so the last complete piece is
    decoded again with the new one (the prefix and read offsets of Hugging Face's text-generation
    servers). A trailing replacement character may be the first bytes of one that is not complete:
    it waits.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._window = 0  # where the ids that are decoded again begin
        self._complete = 0  # ids before this one end on a whole character
        self._given = 0  # characters of the window's text that were given

    def push(self, ids: Sequence[int]) -> str:
        """Add ids and return the text that is certain now."""
        self._ids += ids
        text = self._decode(self._ids[self._window :])
        certain = text.removesuffix(_REPLACEMENT)
        piece = certain[self._given :]
        self._given = max(self._given, len(certain))
        if len(certain) == len(text) and piece:
            self._move_window()
        return piece

    def flush(self) -> str:
        """Return what waited: after the last id, half a character is a replacement character."""
        text = self._decode(self._ids[self._window :])
        piece = text[self._given :]
        self._given = max(self._given, len(text))
        return piece

    def _move_window(self) -> None:
        self._window = self._complete
        self._complete = len(self._ids)
        self._given = len(self._decode(self._ids[self._window :]))


class StopScanner:
    """Passes text on until a stop string appears; what may be the begin of one waits."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = [text for text in stop if text]
        self._held = ""
        self.has_stopped = False

    def push(self, piece: str) -> str:
        """Return the text that may be shown; after a stop string, nothing more ever is."""
        if self.has_stopped:
            return ""
        self._held += piece
        found = [at for text in self._stop if (at := self._held.find(text)) >= 0]
        if found:
            self.has_stopped = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        cut = len(self._held) - self._waiting_length()
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def flush(self) -> str:
        """Return what waited, when no more text comes."""
        shown, self._held = self._held, ""
        return shown

    def _waiting_length(self) -> int:
        """Return the length of the longest end of the text that a stop string begins with."""
        longest = 0
        for text in self._stop:
            for length in range(min(len(text) - 1, len(self._held)), longest, -1):
                if self._held.endswith(text[:length]):
                    longest = length
                    break
        return longest
