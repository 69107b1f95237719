"""Rejects requests that cannot run. One bad request would make the library fail all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from core.generation import MAX_LOGPROBS
from worker.engine.protocol import EngineRefused, EngineRequest, Sampling


@dataclass(frozen=True, slots=True)
class RequestValidator:
    """Checks requests against the bounds of the model and the cache.

    Attributes:
        context_length: most tokens of one sequence, prompt and completion together.
        max_sequences: most sequences of one request.
        has_logprobs: whether log probabilities are available. Captured graphs and steps prepared
            ahead have none.
    """

    vocab_size: int
    context_length: int
    max_sequences: int
    has_logprobs: bool = True

    def validate(self, request: EngineRequest) -> None:
        """Reject a request that cannot run or would fail others.

        Raises:
            EngineRefused: the message lists all faults.
        """
        faults = [*self._size_faults(request), *_sampling_faults(request.sampling)]
        if request.sampling.logprobs is not None and not self.has_logprobs:
            faults.append("log probabilities need CUDA graphs and asynchronous batching off")
        if faults:
            raise EngineRefused("; ".join(faults))

    def _size_faults(self, request: EngineRequest) -> Iterator[str]:
        ids = request.prompt_ids
        if not len(ids):
            yield "the prompt is empty"
        elif any(type(token) is not int for token in ids):
            yield "the prompt's ids must be integers"
        elif min(ids) < 0 or max(ids) >= self.vocab_size:
            yield f"the prompt's ids must be from 0 to {self.vocab_size - 1}"
        if request.max_tokens < 1:
            yield "max_tokens must be at least 1"
        if len(ids) + request.max_tokens > self.context_length:
            yield (
                f"{len(ids)} prompt and {request.max_tokens} new tokens"
                f" are more than {self.context_length}"
            )
        if not 1 <= request.n <= self.max_sequences:
            yield f"n must be from 1 to {self.max_sequences}"
        if not (math.isfinite(request.weight) and request.weight > 0):
            yield "weight must be above 0"


def _sampling_faults(sampling: Sampling) -> Iterator[str]:
    if not (math.isfinite(sampling.temperature) and sampling.temperature >= 0):
        yield "temperature must be at least 0"
    if not 0 < sampling.top_p <= 1:
        yield "top_p must be above 0 and at most 1"
    if not 0 <= sampling.min_p <= 1:
        yield "min_p must be from 0 to 1"
    if not 0 <= sampling.top_k < 2**31:
        yield "top_k must be at least 0"
    if not (math.isfinite(sampling.repetition_penalty) and sampling.repetition_penalty > 0):
        yield "repetition_penalty must be above 0"
    if not (math.isfinite(sampling.presence_penalty) and math.isfinite(sampling.frequency_penalty)):
        yield "penalties must be finite"
    if sampling.logprobs is not None and not 0 <= sampling.logprobs <= MAX_LOGPROBS:
        yield f"logprobs must be from 0 to {MAX_LOGPROBS}"
