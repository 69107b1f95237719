"""How a job is told to OpenAI's clients: as one object, or in the chunks of a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from api.generation.outcomes import require_completion
from api.generation.text_follower import Delta
from core.errors import Conflict
from models.jobs.job import Job, JobState


class OpenAIResponse(ABC):
    """The answer of one job to one request.

    Args:
        has_logprobs: the request asked for log probabilities.
        has_usage_chunk: a stream's last chunk shall say what was used.
    """

    prefix: ClassVar[str]
    whole_object: ClassVar[str]
    chunk_object: ClassVar[str]

    def __init__(self, job: Job, *, has_logprobs: bool, has_usage_chunk: bool) -> None:
        self._head = {
            "id": f"{self.prefix}-{job.id.hex}",
            "created": int(job.created_at.timestamp()),
            "model": job.model,
            "system_fingerprint": None,
        }
        self._has_logprobs = has_logprobs
        self._has_usage_chunk = has_usage_chunk

    def whole(self, job: Job) -> dict[str, Any]:
        """Return all of it.

        Raises:
            ApiError: the job has no answer.
        """
        choices = [
            {
                "index": choice["index"],
                **self._serialize_choice(choice),
                "finish_reason": choice["finish_reason"],
            }
            for choice in _complete(job).choices or ()
        ]
        return {
            **self._head,
            "object": self.whole_object,
            "choices": choices,
            "usage": serialize_usage(job),
        }

    def delta(self, delta: Delta) -> list[dict[str, Any]]:
        """Return the chunks that tell what was added to one choice."""
        return [self._chunk(delta.index, shown) for shown in self._serialize_delta(delta)]

    def end(self, job: Job) -> list[dict[str, Any]]:
        """Return the last chunks: why each choice ended and, if asked for, what was used.

        Raises:
            ApiError: the job has no answer.
        """
        chunks = []
        for choice in _complete(job).choices or ():
            index, reason = choice["index"], choice["finish_reason"]
            *before, last = self._serialize_last(index)
            chunks += [self._chunk(index, shown) for shown in before]
            chunks.append(self._chunk(index, last, reason))
        if self._has_usage_chunk:
            chunks.append({**self._chunk_head, "choices": [], "usage": serialize_usage(job)})
        return chunks

    def _chunk(
        self, index: int, shown: dict[str, Any], finish_reason: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": index, **shown, "finish_reason": finish_reason}
        chunk = {**self._chunk_head, "choices": [choice]}
        if self._has_usage_chunk:
            chunk["usage"] = None
        return chunk

    @property
    def _chunk_head(self) -> dict[str, Any]:
        return {**self._head, "object": self.chunk_object}

    @abstractmethod
    def _serialize_choice(self, choice: dict[str, Any]) -> dict[str, Any]:
        """Return what a choice that is complete says beside its index and reason."""

    @abstractmethod
    def _serialize_delta(self, delta: Delta) -> list[dict[str, Any]]:
        """Return what one or more chunks say of an addition."""

    @abstractmethod
    def _serialize_last(self, index: int) -> list[dict[str, Any]]:
        """Return what the last chunk of a choice says, after what was not said before."""


def serialize_usage(job: Job) -> dict[str, Any]:
    return {
        "prompt_tokens": job.prompt_tokens,
        "completion_tokens": job.completion_tokens,
        "total_tokens": job.prompt_tokens + job.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": job.cached_tokens},
    }


def _complete(job: Job) -> Job:
    """Return a job that was answered to its end.

    OpenAI's clients know no reason for an answer that somebody else cut short: taken for a `stop`,
    half an answer would pass for a whole one.
    """
    if job.state == JobState.CANCELLED:
        raise Conflict(
            "the job was cancelled", code="job_cancelled", headers={"x-should-retry": "false"}
        )
    return require_completion(job)
