"""Encodes once the common beginning of a model's chats: the system message of its template.

Tokenizers first split a text at their special tokens. So the text up to the end of a special token
and the text after it share no token, and can be encoded separately.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from tokenizers import Tokenizer

#: Prompts that reveal the prefix of the template, and verify that the cut changes no token.
_PROBES = ("x", " \n1 y", "Ünï 世界")


@dataclass(frozen=True, slots=True)
class ChatPrefix:
    """A text that ends with a special token, and its ids; both may be empty."""

    text: str = ""
    ids: tuple[int, ...] = ()

    @classmethod
    def find(cls, tokenizer: Tokenizer, render: Callable[[str], str]) -> ChatPrefix:
        """Return the prefix of the chats that `render` makes of prompts."""
        chats = [render(probe) for probe in _PROBES]
        shared = _common_prefix(chats)
        text = shared[: max((_end(shared, token) for token in _cuts(tokenizer)), default=0)]
        prefix = cls(text, tuple(_encode(tokenizer, text)))
        is_exact = all(prefix.encode(tokenizer, chat) == _encode(tokenizer, chat) for chat in chats)
        return prefix if is_exact else NO_PREFIX

    def encode(self, tokenizer: Tokenizer, chat: str) -> list[int]:
        """Return the ids of a chat, with or without this prefix."""
        if not chat.startswith(self.text):
            return _encode(tokenizer, chat)
        return [*self.ids, *_encode(tokenizer, chat[len(self.text) :])]


NO_PREFIX = ChatPrefix()


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the ids of a text; unlike `encode` of the library this releases the GIL."""
    return list(tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids)


def _cuts(tokenizer: Tokenizer) -> list[str]:
    """Return the special tokens after which any text may be cut."""
    tokens = tokenizer.get_added_tokens_decoder().values()
    texts = [token.content for token in tokens]
    return [
        token.content
        for token in tokens
        if not (token.normalized or token.rstrip or token.single_word)
        and sum(token.content in text for text in texts) == 1
    ]


def _common_prefix(texts: Sequence[str]) -> str:
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False))
    return "".join(letters[0] for letters in same)


def _end(text: str, token: str) -> int:
    at = text.rfind(token)
    return 0 if at < 0 else at + len(token)
