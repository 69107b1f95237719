"""Serializes a job for OpenAI's clients, as one object or as the chunks of a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from api.generation.outcomes import require_completion
from api.generation.text_follower import Delta
from core.errors import Conflict
from models.jobs.job import Job, JobState


class OpenAIResponse(ABC):
    """The response to one request with one job.

    Args:
        has_logprobs: the request asked for log probabilities.
        has_usage_chunk: the request asked for a last chunk with the usage.
    """

    id_prefix: ClassVar[str]
    object_type: ClassVar[str]
    chunk_type: ClassVar[str]

    def __init__(self, job: Job, *, has_logprobs: bool, has_usage_chunk: bool) -> None:
        self._head = {
            "id": f"{self.id_prefix}-{job.id.hex}",
            "created": int(job.created_at.timestamp()),
            "model": job.model,
            "system_fingerprint": None,
        }
        self._has_logprobs = has_logprobs
        self._has_usage_chunk = has_usage_chunk

    def to_object(self, job: Job) -> dict[str, Any]:
        """Return the whole completion as one object.

        Raises:
            ApiError: the job has no whole completion.
        """
        choices = [
            {
                "index": choice["index"],
                **self._serialize_choice(choice),
                "finish_reason": choice["finish_reason"],
            }
            for choice in _require_finished(job).choices or ()
        ]
        return {
            **self._head,
            "object": self.object_type,
            "choices": choices,
            "usage": serialize_usage(job),
        }

    def delta_chunks(self, delta: Delta) -> list[dict[str, Any]]:
        """Return the chunks for text that was added to one choice."""
        return [self._chunk(delta.index, content) for content in self._serialize_delta(delta)]

    def end_chunks(self, job: Job) -> list[dict[str, Any]]:
        """Return the last chunks: the finish reason of each choice and, if requested, the usage.

        Raises:
            ApiError: the job has no whole completion.
        """
        chunks = []
        for choice in _require_finished(job).choices or ():
            index, reason = choice["index"], choice["finish_reason"]
            *before, last = self._serialize_last(index)
            chunks += [self._chunk(index, content) for content in before]
            chunks.append(self._chunk(index, last, reason))
        if self._has_usage_chunk:
            chunks.append({**self._chunk_head, "choices": [], "usage": serialize_usage(job)})
        return chunks

    def _chunk(
        self, index: int, content: dict[str, Any], finish_reason: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": index, **content, "finish_reason": finish_reason}
        chunk = {**self._chunk_head, "choices": [choice]}
        if self._has_usage_chunk:
            chunk["usage"] = None
        return chunk

    @property
    def _chunk_head(self) -> dict[str, Any]:
        return {**self._head, "object": self.chunk_type}

    @abstractmethod
    def _serialize_choice(self, choice: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of a whole choice beside its index and finish reason."""

    @abstractmethod
    def _serialize_delta(self, delta: Delta) -> list[dict[str, Any]]:
        """Return the fields of the chunks for one addition."""

    @abstractmethod
    def _serialize_last(self, index: int) -> list[dict[str, Any]]:
        """Return the fields of the last chunk of a choice, after any chunks still missing."""


def serialize_usage(job: Job) -> dict[str, Any]:
    return {
        "prompt_tokens": job.prompt_tokens,
        "completion_tokens": job.completion_tokens,
        "total_tokens": job.prompt_tokens + job.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": job.cached_tokens},
    }


def _require_finished(job: Job) -> Job:
    """Return the job if its completion is whole.

    OpenAI's API has no finish reason for a cancelled completion. With the reason `stop`, clients
    would take a partial completion for a whole one.

    Raises:
        Conflict: the job was cancelled.
        ApiError: the job has no completion.
    """
    if job.state == JobState.CANCELLED:
        raise Conflict(
            "the job was cancelled", code="job_cancelled", headers={"x-should-retry": "false"}
        )
    return require_completion(job)
