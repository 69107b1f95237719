"""Stop strings in a text that comes in pieces, by the automaton of Aho and Corasick (1975)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol


class StopStrings:
    """The stop strings of one request, which all of its choices share.

    A state is the longest end of the text that a stop string begins with.

    Attributes:
        firsts: the characters that stop strings begin with.
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
        """Tell each state where to go on when its next character does not come."""
        waiting = deque(self._next[0].values())
        while waiting:
            state = waiting.popleft()
            for character, child in self._next[state].items():
                self._fallback[child] = self.follow(self._fallback[state], character)
                self.ends[child] = self.ends[child] or self.ends[self._fallback[child]]
                waiting.append(child)


class Scanner(Protocol):
    """Decides piece by piece what of a text may be shown.

    Attributes:
        has_stopped: nothing more ever is.
        held: characters that wait.
    """

    @property
    def has_stopped(self) -> bool: ...

    @property
    def held(self) -> int: ...

    def push(self, piece: str, *, may_stop: bool = True) -> str: ...

    def flush(self) -> str: ...


class StopScanner:
    """Passes text on until a stop string ends in it; what may be the begin of one waits.

    A character costs the same however many and however long the stop strings are, and how the text
    was cut into pieces changes nothing.
    """

    def __init__(self, stop: StopStrings) -> None:
        self._stop = stop
        self._state = 0
        self._held = ""
        self.has_stopped = False

    @property
    def held(self) -> int:
        """How many characters wait."""
        return len(self._held)

    def push(self, piece: str, *, may_stop: bool = True) -> str:
        """Return the text that may be shown; after a stop string, nothing more ever is.

        Args:
            may_stop: stop strings count; none begins in text that came while they did not.
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
        """Return what waited, when no more text comes."""
        shown, self._held = self._held, ""
        return shown

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
