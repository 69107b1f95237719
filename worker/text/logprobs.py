"""Log probabilities as a job's result shows them, in the shape of OpenAI's completions.

A token is shown by its name (`core/prompts/token_name.py`): parts of characters stay apart, though
as text they all look alike.
"""

from __future__ import annotations

import math
from typing import Any

from worker.engine.protocol import TokenLogprob
from worker.text.token_bytes import TokenBytes

#: What OpenAI and vLLM show for a token that was impossible: JSON has no infinity.
IMPOSSIBLE = -9999.0


class Logprobs:
    """The tokens of one choice with their log probabilities."""

    def __init__(self, tokens: TokenBytes) -> None:
        self._tokens = tokens
        self._names: list[str] = []
        self._values: list[float] = []
        self._tops: list[dict[str, float]] = []

    def __len__(self) -> int:
        return len(self._names)

    def add(self, token_id: int, drawn: TokenLogprob) -> None:
        """Add a token. Of tokens with one name the drawn one counts, then the likeliest."""
        name = self._tokens.name(token_id)
        top: dict[str, float] = {}
        for other_id, value in drawn.top:
            other = self._tokens.name(other_id)
            top.setdefault(other, _number(drawn.logprob if other == name else value))
        self._names.append(name)
        self._values.append(_number(drawn.logprob))
        self._tops.append(top)

    def show(self, begin: int = 0, end: int | None = None) -> dict[str, list[Any]]:
        """Return those of some tokens, one entry a token."""
        return {
            "tokens": self._names[begin:end],
            "token_logprobs": self._values[begin:end],
            "top_logprobs": self._tops[begin:end],
        }


def _number(value: float) -> float:
    return value if math.isfinite(value) else IMPOSSIBLE
