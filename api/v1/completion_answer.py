"""A job in the shape of OpenAI's completions."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from api.following import Delta, Logprobs
from api.v1.answer import Answer


class CompletionAnswer(Answer):
    prefix = "cmpl"
    whole_object = chunk_object = "text_completion"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._offsets: defaultdict[int, int] = defaultdict(int)

    def _show_choice(self, choice: dict[str, Any]) -> dict[str, Any]:
        shown = self._show_logprobs(choice["index"], choice.get("logprobs"))
        return {"text": choice["text"], "logprobs": shown}

    def _show_delta(self, delta: Delta) -> list[dict[str, Any]]:
        shown = self._show_logprobs(delta.index, delta.logprobs)
        return [{"text": delta.text, "logprobs": shown}]

    def _show_last(self, index: int) -> list[dict[str, Any]]:
        return [{"text": "", "logprobs": None}]

    def _show_logprobs(self, index: int, logprobs: Logprobs | None) -> dict[str, Any] | None:
        """Return the tokens' log probabilities; the drawn one is always among the best."""
        if not self._has_logprobs or logprobs is None:
            return None
        tokens, values = logprobs["tokens"], logprobs["token_logprobs"]
        drawn = zip(tokens, values, logprobs["top_logprobs"], strict=True)
        return {
            "tokens": tokens,
            "token_logprobs": values,
            "top_logprobs": [{**top, token: value} for token, value, top in drawn],
            "text_offset": [self._next_offset(index, token) for token in tokens],
        }

    def _next_offset(self, index: int, token: str) -> int:
        offset = self._offsets[index]
        self._offsets[index] += len(token)
        return offset
