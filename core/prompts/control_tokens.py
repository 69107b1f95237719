"""Breaks the control tokens of a model in callers' texts; only the chat template may write them.

A template joins callers' texts and control tokens into one text. A caller who writes `<|im_end|>`
would end the message and could forge the next one. So a mark breaks each control token in a
caller's text before it is rendered, and each part is encoded separately. The model reads the same
characters, but no control token. The mark is NUL, which no valid text contains.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from tokenizers import Tokenizer

MARK = "\x00"
#: Added tokens that templates and infilling use, although the tokenizer does not mark them special.
_DELIMITED = re.compile(r"<[|｜].+[|｜]>", re.DOTALL)  # noqa: RUF001 - DeepSeek uses it
_WORD = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class ControlTokens:
    """The control tokens of a tokenizer, and their broken forms.

    Attributes:
        broken: each control token and its broken form.
        suffixes: for each beginning of a control token, the missing ends.
    """

    broken: tuple[tuple[str, str], ...] = ()
    suffixes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    longest: int = 0

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> ControlTokens:
        """Return the control tokens of a tokenizer: special ones, and those written `<|…|>`."""
        added = tokenizer.get_added_tokens_decoder().values()
        texts = sorted(
            token.content
            for token in added
            if len(token.content) > 1 and (token.special or _DELIMITED.fullmatch(token.content))
        )
        suffixes: dict[str, tuple[str, ...]] = {}
        for text in texts:
            for at in range(1, len(text)):
                suffixes[text[:at]] = (*suffixes.get(text[:at], ()), text[at:])
        broken = tuple((text, _break(text)) for text in texts)
        return cls(broken, suffixes, max(map(len, texts), default=0))

    def disarm(self, texts: Sequence[str]) -> list[str]:
        """Return the texts of one caller with every control token broken.

        This includes a token that begins in one text and ends in another, because a template may
        place them side by side.
        """
        disarmed = [self._disarm(text) for text in texts]
        heads = [text.lstrip() for text in texts]
        return [self._disarm_end(text, heads) for text in disarmed]

    def _disarm(self, text: str) -> str:
        for token, broken in self.broken:
            while token in text:  # repeated, because occurrences may overlap
                text = text.replace(token, broken)
        return text

    def _disarm_end(self, text: str, heads: Sequence[str]) -> str:
        end = len(text.rstrip())
        for length in range(1, min(self.longest, end + 1)):
            for suffix in self.suffixes.get(text[end - length : end], ()):
                if any(_may_follow(head, suffix) for head in heads):
                    return f"{text[:end]}{MARK}{text[end:]}"
        return text


def _break(token: str) -> str:
    """Return the token with a mark where a tokenizer would split it anyway."""
    word = _WORD.search(token, 1)
    at = word.start() if word else len(token) // 2
    return f"{token[:at]}{MARK}{token[at:]}"


def _may_follow(head: str, suffix: str) -> bool:
    return bool(head) and (head.startswith(suffix) or suffix.startswith(head))
