"""Log probabilities as a job's result shows them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from worker.engine import TokenLogprob
from worker.text import Decode


def show_logprobs(said: Sequence[tuple[int, TokenLogprob]], decode: Decode) -> dict[str, list[Any]]:
    """Return log probabilities in the shape of OpenAI's completions, one entry a token."""
    return {
        "tokens": [storable(decode([token])) for token, _ in said],
        "token_logprobs": [_number(drawn.logprob) for _, drawn in said],
        "top_logprobs": [
            {storable(decode([token])): _number(value) for token, value in drawn.top}
            for _, drawn in said
        ],
    }


def _number(value: float) -> float | None:
    """Return a number that JSON has: a token that was impossible has none."""
    return value if math.isfinite(value) else None


def storable(text: str) -> str:
    """Return text that PostgreSQL can keep: a model may write NUL, a column cannot hold it."""
    return text.replace("\x00", "\ufffd")
