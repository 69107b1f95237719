"""Log probabilities in a job's result, in the shape of OpenAI's completions.

A token is represented by its name (`core/prompts/token_name.py`): names distinguish parts of
characters, which all look alike as text.
"""

from __future__ import annotations

import math
from typing import Any

from worker.engine.protocol import TokenLogprob
from worker.text.token_bytes import TokenBytes

#: Value of OpenAI and vLLM for an impossible token: JSON has no infinity.
IMPOSSIBLE = -9999.0


class ChoiceLogprobs:
    """The log probabilities of one choice."""

    def __init__(self, tokens: TokenBytes) -> None:
        self._tokens = tokens
        self._names: list[str] = []
        self._values: list[float] = []
        self._tops: list[dict[str, float]] = []

    def __len__(self) -> int:
        return len(self._names)

    def add(self, token_id: int, drawn: TokenLogprob) -> None:
        """Add a token. Among equal names keep the drawn token, then the likeliest."""
        name = self._tokens.name(token_id)
        top: dict[str, float] = {}
        for other_id, value in drawn.top:
            other = self._tokens.name(other_id)
            top.setdefault(other, _number(drawn.logprob if other == name else value))
        self._names.append(name)
        self._values.append(_number(drawn.logprob))
        self._tops.append(top)

    def serialize(self, start: int = 0, end: int | None = None) -> dict[str, list[Any]]:
        """Return the lists of a range of tokens, one entry for each token."""
        return {
            "tokens": self._names[start:end],
            "token_logprobs": self._values[start:end],
            "top_logprobs": self._tops[start:end],
        }


def _number(value: float) -> float:
    return value if math.isfinite(value) else IMPOSSIBLE
