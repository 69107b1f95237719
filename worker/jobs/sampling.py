"""From what a customer asked for to what the engine is told: the request first, then the model's
own generation defaults, then no change at all.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from core.generation import Generation
from worker.engine.protocol import Sampling

SEED_BITS = 31


def engine_sampling(generation: Generation, defaults: dict[str, Any], job_id: UUID) -> Sampling:
    """Return the sampling of a job.

    Without a seed, the job's id is the seed: a job that runs again draws with the same noise.
    """
    seed = job_id.int if generation.seed is None else generation.seed

    def chosen(asked: Any, name: str, neutral: Any) -> Any:
        return asked if asked is not None else defaults.get(name) or neutral

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
