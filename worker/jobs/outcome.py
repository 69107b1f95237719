"""Converts an ended generation to the outcome in its job's row."""

from __future__ import annotations

import logging
from typing import Any

from models.jobs.job import JobState
from models.jobs.outcome import JobOutcome
from worker.engine.protocol import FinishReason
from worker.jobs.delivery import RunningGeneration
from worker.text.choice import RunningChoice

_log = logging.getLogger(__name__)


def make_outcome(generation: RunningGeneration, prompt_tokens: int) -> JobOutcome:
    """Return the outcome of a job whose generation has ended."""
    state, error = JobState.SUCCEEDED, None
    reasons = {choice.finish_reason for choice in generation.choices}
    if FinishReason.ERROR in reasons:
        state = JobState.FAILED
        error = {"code": "engine_error", "message": "the model could not finish this request"}
        _log.error("engine error: %s", generation.error)
    elif reasons & {FinishReason.CANCELLED, FinishReason.EXPIRED}:
        state = JobState.CANCELLED
    choices = [_serialize(choice, index) for index, choice in enumerate(generation.choices)]
    return JobOutcome(
        state=state,
        choices=None if state is JobState.FAILED else choices,
        error=error,
        prompt_tokens=prompt_tokens,
        completion_tokens=generation.completion_tokens,
        cached_tokens=generation.cached_tokens,
        first_token=generation.first_token,
    )


def _serialize(choice: RunningChoice, index: int) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "text": choice.text,
        "index": index,
        "finish_reason": choice.finish_reason,
    }
    if choice.logprobs:
        fields["logprobs"] = choice.logprobs.serialize()
    return fields
