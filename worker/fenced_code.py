"""The code of an answer in Markdown, where a stop string is the fence that such code stands in.

A chat model writes code like this:

    Here is the function:
    ```python
    def add(a, b): ...
    ```
    It adds two numbers.

With ``` as a stop string the first fence would end this answer before its code. So for a prompt
that the service itself makes a chat of:

- the fence that opens the code ends nothing; the fence, its language and the prose before it are
  dropped;
- after that the closing fence ends the answer, and so does every other stop string;
- an answer that opens no fence within its first `MOST_PREFACE` characters is given as it is, and
  ends at its stop strings, but not at one that it begins with (`### Function`).

Raw prompts, and chats in turns (`messages`, `/v1`), have plain stop strings: `StopScanner`.
"""

from __future__ import annotations

import re
from typing import Protocol

from worker.stop_strings import StopScanner, StopStrings

#: Characters of an answer that may come before its code; they wait until it is known. Models write
#: explanations of 1,500 before they write a function: this is twice as much.
MOST_PREFACE = 4096
#: A stop string that is the fence of a block.
_FENCE = re.compile(r"\s*(?P<kind>`|~)(?P=kind){2,}[\w+#.-]*\s*")


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


def has_fence(stop: StopStrings) -> bool:
    """Say whether one of the stop strings is a Markdown fence, perhaps with a language."""
    return any(map(_FENCE.fullmatch, stop.texts))


class FencedCode:
    """Passes on the code of an answer, as `StopScanner` passes on a text."""

    def __init__(self, stop: StopStrings) -> None:
        self._stop = stop
        self._opening = _opening_of(stop)
        self._preface = ""
        self._unstopped = 0  # characters of the preface that came while stop strings did not count
        self._code: StopScanner | None = None

    @property
    def has_stopped(self) -> bool:
        return self._code is not None and self._code.has_stopped

    @property
    def held(self) -> int:
        """How many characters wait."""
        return len(self._preface) if self._code is None else self._code.held

    def push(self, piece: str, *, may_stop: bool = True) -> str:
        """Return what is known to be of the code, or of an answer without any.

        Args:
            may_stop: stop strings count; none begins in text that came while they did not.
        """
        if self._code is not None:
            return self._code.push(piece, may_stop=may_stop)
        self._preface += piece
        if not may_stop:
            self._unstopped = len(self._preface)
        found = self._opening.search(self._preface, 0, MOST_PREFACE) if "\n" in piece else None
        if found is not None:
            return self._open(found)
        return self._give_up() if len(self._preface) >= MOST_PREFACE else ""

    def flush(self) -> str:
        """Return what waited, when no more text comes."""
        shown = self._give_up() if self._code is None else ""
        return shown if self._code is None else shown + self._code.flush()

    def _open(self, found: re.Match[str]) -> str:
        """Begin the code behind its opening fence; one like it closes it."""
        fence = found["fence"] or found["late"]
        others = [text for text in self._stop.texts if not _FENCE.fullmatch(text)]
        self._code = StopScanner(StopStrings([*others, fence]))
        return self._begin(found.end(), self._unstopped)

    def _give_up(self) -> str:
        """Take the answer for one without fences."""
        self._code = StopScanner(self._stop)
        return self._begin(0, max(self._unstopped, self._length_of_heading()))

    def _begin(self, begin: int, stops_from: int) -> str:
        assert self._code is not None
        text, self._preface = self._preface, ""
        stops_from = max(begin, stops_from)
        shown = self._code.push(text[begin:stops_from], may_stop=False)
        return shown + self._code.push(text[stops_from:])

    def _length_of_heading(self) -> int:
        """Return how much of the answer is a stop string that it begins with."""
        begun = len(self._preface) - len(self._preface.lstrip())
        found = [text for text in self._stop.texts if self._preface.startswith(text, begun)]
        return begun + len(max(found, key=len)) if found else 0


def _opening_of(stop: StopStrings) -> re.Pattern[str]:
    """Return what opens a block: a fence of the stop strings' kind and the rest of its line.

    At the begin of a line any text may follow it, later in a line a language.
    """
    kinds = {found["kind"] for text in stop.texts if (found := _FENCE.fullmatch(text))}
    fence = "|".join(f"{kind}{{3,}}" for kind in sorted(kinds))
    first = rf"(?:^|\n)[ \t]*(?P<fence>{fence})[^`\n]*"
    later = rf"(?P<late>{fence})[\w+#.-]*[ \t\r]*"
    return re.compile(rf"(?:{first}|{later})\n")
