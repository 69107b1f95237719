"""Extracts the code of a completion whose prompt ends with an opening code fence.

A fence among its stop strings marks a prompt that asks for code (`core/prompts/code_fence.py`). Its
chat ends with that fence (`PromptTokenizer.text_of`), and the model continues inside the block:

    python
    def add(a, b): ...
    ```

The rest of the first line, which names the language, is dropped. The closing fence ends the text,
as every other stop string does.
"""

from __future__ import annotations

import re

from worker.text.stop_strings import StopScanner

#: Longest rest of an opening fence's line.
MAX_INFO_CHARACTERS = 80
#: The text after an opening fence: a language and attributes. Other text is code.
_INFO = re.compile(r"[ \t]*[\w+#.-]*(?:[ \t]+[\w-]+=\S+)*[ \t\r]*")


class FencedCode:
    """A scanner that drops the language of the fence and passes the code to `code`."""

    def __init__(self, code: StopScanner) -> None:
        self._code = code
        self._info = ""
        self._unstopped = 0  # its characters from the time when stop strings did not count
        self._is_code = False

    @property
    def has_stopped(self) -> bool:
        return self._code.has_stopped

    @property
    def held(self) -> int:
        """Number of withheld characters."""
        return len(self._info) + self._code.held

    def push(self, piece: str, *, may_stop: bool = True) -> str:
        """Add text; return the part that certainly belongs to the code.

        Args:
            may_stop: whether stop strings count; none starts in text from before they did.
        """
        if self._is_code:
            return self._code.push(piece, may_stop=may_stop)
        self._info += piece
        if not may_stop:
            self._unstopped = len(self._info)
        info, newline, _ = self._info.partition("\n")
        if newline and len(info) <= MAX_INFO_CHARACTERS and _INFO.fullmatch(info):
            return self._start(len(info) + 1)
        return self._start(0) if newline or len(info) > MAX_INFO_CHARACTERS else ""

    def flush(self) -> str:
        """Return the withheld text at the end."""
        text = "" if self._is_code else self._start(0)
        return text + self._code.flush()

    def _start(self, start: int) -> str:
        """Pass on the withheld text from this character on, and from now on all text."""
        text, self._info, self._is_code = self._info, "", True
        counted = max(start, self._unstopped)
        code = self._code.push(text[start:counted], may_stop=False)
        return code + self._code.push(text[counted:])
