"""The code of an answer that the prompt has begun with the fence of a code block.

With a fence among its stop strings a prompt asks for code (`core/prompts/code_fence.py`). Its chat
ends with that fence (`PromptTokenizer.text_of`), and the model goes on inside the block:

    python
    def add(a, b): ...
    ```

So the rest of the first line, which says the language, is dropped, and the closing fence ends the
answer, as does every other stop string.
"""

from __future__ import annotations

import re

from worker.text.stop_strings import StopScanner

#: Characters that the line of an opening fence may have.
MOST_INFO = 80
#: What stands behind an opening fence: a language, perhaps attributes. Other text is code.
_INFO = re.compile(r"[ \t]*[\w+#.-]*(?:[ \t]+[\w-]+=\S+)*[ \t\r]*")


class FencedCode:
    """Passes on the code of an answer, as `code` passes on a text."""

    def __init__(self, code: StopScanner) -> None:
        self._code = code
        self._info = ""
        self._unstopped = 0  # characters of it that came while stop strings did not count
        self._is_code = False

    @property
    def has_stopped(self) -> bool:
        return self._code.has_stopped

    @property
    def held(self) -> int:
        """How many characters wait."""
        return len(self._info) + self._code.held

    def push(self, piece: str, *, may_stop: bool = True) -> str:
        """Return what is known to be of the code.

        Args:
            may_stop: stop strings count; none begins in text that came while they did not.
        """
        if self._is_code:
            return self._code.push(piece, may_stop=may_stop)
        self._info += piece
        if not may_stop:
            self._unstopped = len(self._info)
        info, newline, _ = self._info.partition("\n")
        if newline and len(info) <= MOST_INFO and _INFO.fullmatch(info):
            return self._begin(len(info) + 1)
        return self._begin(0) if newline or len(info) > MOST_INFO else ""

    def flush(self) -> str:
        """Return what waited, when no more text comes."""
        shown = "" if self._is_code else self._begin(0)
        return shown + self._code.flush()

    def _begin(self, begin: int) -> str:
        """Pass on the text that waited, from this character on, and from now on every text."""
        text, self._info, self._is_code = self._info, "", True
        counted = max(begin, self._unstopped)
        shown = self._code.push(text[begin:counted], may_stop=False)
        return shown + self._code.push(text[counted:])
