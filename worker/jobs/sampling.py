"""Converts a customer's sampling parameters to the engine's.

A parameter that the request omits takes the model's own default, else its neutral value.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from core.generation import Generation
from worker.engine.protocol import Sampling

SEED_BITS = 31


def engine_sampling(generation: Generation, defaults: dict[str, Any], job_id: UUID) -> Sampling:
    """Return the sampling of a job.

    Without a seed, the job's id is the seed: a second attempt draws with the same noise.
    """
    seed = job_id.int if generation.seed is None else generation.seed

    def chosen(requested: Any, name: str, neutral: Any) -> Any:
        return requested if requested is not None else defaults.get(name) or neutral

    return Sampling(
        temperature=generation.temperature,
        top_p=float(chosen(generation.top_p, "top_p", 1.0)),
        top_k=int(chosen(generation.top_k, "top_k", 0)),
        min_p=float(chosen(generation.min_p, "min_p", 0.0)),
        presence_penalty=generation.presence_penalty,
        frequency_penalty=generation.frequency_penalty,
        repetition_penalty=float(chosen(generation.repetition_penalty, "repetition_penalty", 1.0)),
        seed=seed % (1 << SEED_BITS),
        min_tokens=generation.min_tokens,
        ignore_eos=generation.ignore_eos,
        logprobs=generation.logprobs,
    )
