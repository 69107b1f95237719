"""Finds stop strings in a text in pieces, by Aho and Corasick (1975)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol


class StopStrings:
    """The automaton of one request's stop strings, which all of its choices share.

    A state is the longest suffix of the text that is a prefix of a stop string.

    Attributes:
        firsts: the first characters of the stop strings.
        depths: the length of each state.
        ends: the length of the longest stop string that ends in a state, or 0.
    """

    def __init__(self, stop: Iterable[str]) -> None:
        self.texts = tuple(text for text in stop if text)
        self.firsts = frozenset(text[0] for text in self.texts)
        self.depths = [0]
        self.ends = [0]
        self._next: list[dict[str, int]] = [{}]
        self._fallback = [0]
        for text in self.texts:
            self._add(text)
        self._link()

    def follow(self, state: int, character: str) -> int:
        """Return the state after one more character."""
        while state and character not in self._next[state]:
            state = self._fallback[state]
        return self._next[state].get(character, 0)

    def _add(self, text: str) -> None:
        state = 0
        for character in text:
            if character not in self._next[state]:
                self._next[state][character] = len(self._next)
                self._next.append({})
                self._fallback.append(0)
                self.depths.append(self.depths[state] + 1)
                self.ends.append(0)
            state = self._next[state][character]
        self.ends[state] = len(text)

    def _link(self) -> None:
        """Set the fallback of each state, for a character that does not continue it."""
        waiting = deque(self._next[0].values())
        while waiting:
            state = waiting.popleft()
            for character, child in self._next[state].items():
                self._fallback[child] = self.follow(self._fallback[state], character)
                self.ends[child] = self.ends[child] or self.ends[self._fallback[child]]
                waiting.append(child)


class Scanner(Protocol):
    """Decides piece by piece which part of a text may be returned.

    Attributes:
        has_stopped: a stop string ended the text; nothing more is returned.
        held: number of withheld characters.
    """

    @property
    def has_stopped(self) -> bool: ...

    @property
    def held(self) -> int: ...

    def push(self, piece: str, *, may_stop: bool = True) -> str: ...

    def flush(self) -> str: ...


class StopScanner:
    """Passes text on up to a stop string; withholds a possible start of one.

    Each character costs the same, regardless of the number and length of the stop strings. The
    division of the text into pieces does not affect the result.
    """

    def __init__(self, stop: StopStrings) -> None:
        self._stop = stop
        self._state = 0
        self._held = ""
        self.has_stopped = False

    @property
    def held(self) -> int:
        """Number of withheld characters."""
        return len(self._held)

    def push(self, piece: str, *, may_stop: bool = True) -> str:
        """Add text; return the part that belongs to no stop string. Nothing after a stop.

        Args:
            may_stop: whether stop strings count; none starts in text from before they did.
        """
        if self.has_stopped:
            return ""
        if not may_stop:
            self._state = 0
            return self.flush() + piece
        if not self._state and self._stop.firsts.isdisjoint(piece):
            return piece
        return self._scan(piece)

    def flush(self) -> str:
        """Return the withheld text at the end."""
        text, self._held = self._held, ""
        return text

    def _scan(self, piece: str) -> str:
        text = self._held + piece
        for end, character in enumerate(piece, len(self._held) + 1):
            self._state = self._stop.follow(self._state, character)
            length = self._stop.ends[self._state]
            if length:
                self.has_stopped = True
                self._held = ""
                return text[: end - length]
        cut = len(text) - self._stop.depths[self._state]
        self._held = text[cut:]
        return text[:cut]
