"""Serializes a job as OpenAI's chat completion."""

from __future__ import annotations

from typing import Any

from api.generation.text_follower import Delta, Logprobs
from api.v1.generation.response import OpenAIResponse
from core.prompts.token_name import bytes_of, without_mark


class ChatResponse(OpenAIResponse):
    id_prefix = "chatcmpl"
    object_type = "chat.completion"
    chunk_type = "chat.completion.chunk"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._begun: set[int] = set()

    def _serialize_choice(self, choice: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": choice["text"], "refusal": None}
        logprobs = choice.get("logprobs") or {"tokens": []}
        return {"message": message, "logprobs": self._serialize_logprobs(logprobs)}

    def _serialize_delta(self, delta: Delta) -> list[dict[str, Any]]:
        logprobs = self._serialize_logprobs(delta.logprobs) if delta.logprobs else None
        content = {"delta": {"content": delta.text}, "logprobs": logprobs}
        return [*self._opening_chunk(delta.index), content]

    def _serialize_last(self, index: int) -> list[dict[str, Any]]:
        return [*self._opening_chunk(index), {"delta": {}, "logprobs": None}]

    def _opening_chunk(self, index: int) -> list[dict[str, Any]]:
        """Return the chunk that opens a choice, on the first call for it."""
        if index in self._begun:
            return []
        self._begun.add(index)
        return [{"delta": {"role": "assistant", "content": "", "refusal": None}, "logprobs": None}]

    def _serialize_logprobs(self, logprobs: Logprobs) -> dict[str, Any] | None:
        if not self._has_logprobs:
            return None
        content = []
        for position, token in enumerate(logprobs["tokens"]):
            top = logprobs["top_logprobs"][position]
            best = sorted(top.items(), key=lambda item: -item[1])
            content.append(
                {
                    **_serialize_token(token, logprobs["token_logprobs"][position]),
                    "top_logprobs": [_serialize_token(*one) for one in best],
                }
            )
        return {"content": content, "refusal": None}


def _serialize_token(name: str, logprob: float) -> dict[str, Any]:
    data = bytes_of(name)
    return {
        "token": without_mark(name),
        "logprob": logprob,
        "bytes": None if data is None else list(data),
    }
