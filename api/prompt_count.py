"""Counts the tokens of prompts without holding up the other greenlets."""

from __future__ import annotations

from collections.abc import Sequence

from core.blocking import run_blocking
from core.generation import Generation
from core.prompt import PromptText, PromptTokenizer

#: Shorter prompts are encoded in less time than a thread costs.
ENCODE_INLINE_CHARACTERS = 4096


def count_prompt(tokenizer: PromptTokenizer, generation: Generation) -> int:
    """Return the tokens of a generation's prompt.

    Raises:
        InvalidRequest: the chat template does not take these messages.
    """
    characters = len(generation.prompt or "") + sum(
        len(message.content) for message in generation.messages or ()
    )
    if characters <= ENCODE_INLINE_CHARACTERS:
        return len(tokenizer.encode(generation))
    return len(run_blocking(tokenizer.encode, generation))


def count_texts(tokenizer: PromptTokenizer, texts: Sequence[PromptText]) -> list[int]:
    """Return the tokens of each text, all of them counted in one real thread."""
    return run_blocking(tokenizer.count, texts)
