"""Serializes a job as OpenAI's completion."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from api.generation.text_follower import Delta, Logprobs
from api.v1.generation.response import OpenAIResponse
from api.v1.generation.text_offsets import TextOffsets
from core.prompts.token_name import without_mark


class CompletionResponse(OpenAIResponse):
    id_prefix = "cmpl"
    object_type = chunk_type = "text_completion"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._offsets: defaultdict[int, TextOffsets] = defaultdict(TextOffsets)

    def _serialize_choice(self, choice: dict[str, Any]) -> dict[str, Any]:
        return self._serialize(choice["index"], choice["text"], choice.get("logprobs"))

    def _serialize_delta(self, delta: Delta) -> list[dict[str, Any]]:
        return [self._serialize(delta.index, delta.text, delta.logprobs)]

    def _serialize_last(self, index: int) -> list[dict[str, Any]]:
        return [{"text": "", "logprobs": None}]

    def _serialize(self, index: int, text: str, logprobs: Logprobs | None) -> dict[str, Any]:
        offsets = self._offsets[index]
        offsets.add_sent(text)
        return {"text": text, "logprobs": self._serialize_logprobs(offsets, logprobs)}

    def _serialize_logprobs(
        self, offsets: TextOffsets, logprobs: Logprobs | None
    ) -> dict[str, Any] | None:
        """Return log probabilities; the sampled token is always among the most likely ones."""
        if not self._has_logprobs or logprobs is None:
            return None
        names, values = logprobs["tokens"], logprobs["token_logprobs"]
        drawn = zip(names, values, logprobs["top_logprobs"], strict=True)
        return {
            "tokens": list(map(without_mark, names)),
            "token_logprobs": values,
            "top_logprobs": [_rank_tokens({**top, name: value}) for name, value, top in drawn],
            "text_offset": list(map(offsets.next, names)),
        }


def _rank_tokens(top: dict[str, float]) -> dict[str, float]:
    """Return tokens by descending log probability."""
    best = sorted(top.items(), key=lambda item: -item[1])
    return {without_mark(name): value for name, value in best}
