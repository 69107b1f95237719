"""Counts the tokens of prompts without holding up the other greenlets.

The time that a prompt takes is bounded by the tokens that it may have (`PromptTokenizer.count`).
The number of threads that count at once is bounded too: other requests need the processors.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from core.concurrency.greenlets import run_blocking
from core.generation import Generation
from core.prompts.tokenizer import PromptText, PromptTokenizer

#: Shorter prompts are encoded in less time than a thread costs.
ENCODE_INLINE_CHARACTERS = 4096
#: Prompts of single requests that one process counts at once.
THREADS = 2


class PromptCounter:
    """Counts the prompts of one process."""

    def __init__(self, tokenizer: PromptTokenizer) -> None:
        self._tokenizer = tokenizer
        self._places = threading.BoundedSemaphore(THREADS)

    def count(self, generation: Generation, *, most: int) -> int | None:
        """Return the tokens of a generation's prompt; `None` if it surely has more than `most`.

        Raises:
            InvalidRequest: the chat template does not take these messages.
        """
        if not self._tokenizer.may_fit(_characters(generation), most):
            return None
        if not is_counted_apart(generation):
            return self._count(generation, most)
        with self._places:
            return run_blocking(self._count, generation, most)

    def count_texts(self, texts: Sequence[PromptText], *, most: int) -> list[int | None]:
        """Return the tokens of each text, all of them counted in one real thread."""
        return run_blocking(self._tokenizer.count, texts, most=most)

    def _count(self, generation: Generation, most: int) -> int | None:
        return self._tokenizer.count_one(self._tokenizer.text_of(generation), most=most)


def is_counted_apart(generation: Generation) -> bool:
    """Say whether a prompt is so long that a thread of its own counts it."""
    return _characters(generation) > ENCODE_INLINE_CHARACTERS


def _characters(generation: Generation) -> int:
    return len(generation.prompt or "") + sum(
        len(message.content) for message in generation.messages or ()
    )
