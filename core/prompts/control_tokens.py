"""The control tokens of a model: what a chat template writes between turns, and callers must not.

A template joins callers' texts with its own control tokens into one text. A caller who writes
`<|im_end|>` would end the turn there and could forge the next one. So a control token in a caller's
text is broken by a mark before the template gets it, and each part is encoded by itself: the model
reads the same characters, and no control token. The mark is NUL, which no valid text contains.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from tokenizers import Tokenizer

MARK = "\x00"
#: Added tokens that a tokenizer does not call special, although templates and infilling use them.
_DELIMITED = re.compile(r"<[|｜].+[|｜]>", re.DOTALL)  # noqa: RUF001 - DeepSeek has it
_WORD = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class ControlTokens:
    """Breaks the control tokens that callers wrote.

    Attributes:
        broken: each control token, and how it is written so that it is none.
        rests: what is missing to a control token after each of its beginnings.
    """

    broken: tuple[tuple[str, str], ...] = ()
    rests: dict[str, tuple[str, ...]] = field(default_factory=dict)
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
        rests: dict[str, tuple[str, ...]] = {}
        for text in texts:
            for at in range(1, len(text)):
                rests[text[:at]] = (*rests.get(text[:at], ()), text[at:])
        broken = tuple((text, _break(text)) for text in texts)
        return cls(broken, rests, max(map(len, texts), default=0))

    def disarm(self, texts: Sequence[str]) -> list[str]:
        """Return the texts of one caller with every control token in them broken.

        This includes a token that begins in one text and ends in another: a template may write them
        next to each other.
        """
        disarmed = [self._disarm(text) for text in texts]
        heads = [text.lstrip() for text in texts]
        return [self._disarm_end(text, heads) for text in disarmed]

    def _disarm(self, text: str) -> str:
        for token, broken in self.broken:
            while token in text:  # once more where an occurrence overlaps the one before
                text = text.replace(token, broken)
        return text

    def _disarm_end(self, text: str, heads: Sequence[str]) -> str:
        end = len(text.rstrip())
        for length in range(1, min(self.longest, end + 1)):
            for rest in self.rests.get(text[end - length : end], ()):
                if any(_may_follow(head, rest) for head in heads):
                    return f"{text[:end]}{MARK}{text[end:]}"
        return text


def _break(token: str) -> str:
    """Return the token with a mark where a tokenizer of text would cut it anyway."""
    word = _WORD.search(token, 1)
    at = word.start() if word else len(token) // 2
    return f"{token[:at]}{MARK}{token[at:]}"


def _may_follow(head: str, rest: str) -> bool:
    return bool(head) and (head.startswith(rest) or rest.startswith(head))
