"""What an answer is in its job's row: state, choices, usage."""

from __future__ import annotations

import logging
from typing import Any

from models.jobs.job import JobOutcome, JobState
from worker.engine.protocol import FinishReason
from worker.jobs.delivery import Answer
from worker.text.choice import Choice

_log = logging.getLogger(__name__)


def outcome_of(answer: Answer, prompt_tokens: int) -> JobOutcome:
    """Return how the job of an answer that has ended is recorded."""
    state, error = JobState.SUCCEEDED, None
    reasons = {choice.finish_reason for choice in answer.choices}
    if FinishReason.ERROR in reasons:
        state = JobState.FAILED
        error = {"code": "engine_error", "message": "the model could not finish this request"}
        _log.error("engine error: %s", answer.error)
    elif reasons & {FinishReason.CANCELLED, FinishReason.EXPIRED}:
        state = JobState.CANCELLED
    choices = [_show_choice(choice, index) for index, choice in enumerate(answer.choices)]
    return JobOutcome(
        state=state,
        choices=None if state is JobState.FAILED else choices,
        error=error,
        prompt_tokens=prompt_tokens,
        completion_tokens=answer.completion_tokens,
        cached_tokens=answer.cached_tokens,
        first_token=answer.first_token,
    )


def _show_choice(choice: Choice, index: int) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "text": choice.text,
        "index": index,
        "finish_reason": choice.finish_reason,
    }
    if choice.logprobs:
        shown["logprobs"] = choice.logprobs.show()
    return shown
