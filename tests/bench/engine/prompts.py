"""The prompts of the benchmark, and how many tokens follow each."""

from __future__ import annotations

import random

NEW_TOKENS = 64
#: The least and the most.
PROMPT_TOKENS = (50, 200)
SHORT_PROMPT_TOKENS = 32


def random_prompt(draw: random.Random, least: int, most: int) -> list[int]:
    """Return `least` to `most` token ids."""
    return [draw.randrange(10, 5000) for _ in range(draw.randint(least, most))]
