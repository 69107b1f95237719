"""Counts the tokens of prompts without blocking the other greenlets.

`PromptTokenizer.count` bounds the time for one prompt by the tokens that it may have. The number of
counting threads is bounded too, because other requests need the processors.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from core.concurrency.greenlets import run_blocking
from core.generation import Generation
from core.prompts.tokenizer import PromptText, PromptTokenizer

#: To encode a shorter prompt takes less time than to start a thread.
ENCODE_INLINE_CHARACTERS = 4096
#: Prompts of single requests that one process counts at the same time.
THREADS = 2


class PromptCounter:
    """Counts the prompts of one process."""

    def __init__(self, tokenizer: PromptTokenizer) -> None:
        self._tokenizer = tokenizer
        self._slots = threading.BoundedSemaphore(THREADS)

    def count(self, generation: Generation, *, most: int) -> int | None:
        """Return the tokens of a prompt, or `None` if it surely has more than `most`.

        Raises:
            InvalidRequest: the chat template refuses these messages.
        """
        if not self._tokenizer.may_fit(_characters(generation), most):
            return None
        if not needs_counting_thread(generation):
            return self._count(generation, most)
        with self._slots:
            return run_blocking(self._count, generation, most)

    def count_texts(self, texts: Sequence[PromptText], *, most: int) -> list[int | None]:
        """Return the tokens of each text; one real thread counts all of them."""
        return run_blocking(self._tokenizer.count, texts, most=most)

    def _count(self, generation: Generation, most: int) -> int | None:
        return self._tokenizer.count_one(self._tokenizer.text_of(generation), most=most)


def needs_counting_thread(generation: Generation) -> bool:
    """Return whether a prompt is so long that a thread must count it."""
    return _characters(generation) > ENCODE_INLINE_CHARACTERS


def _characters(generation: Generation) -> int:
    return len(generation.prompt or "") + sum(
        len(message.content) for message in generation.messages or ()
    )
