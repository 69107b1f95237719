"""Jobs and completions as the JSON of the API and of webhooks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from core.ids import Prefix, format_id
from models.jobs.job import Job, JobState


def format_time(value: datetime | None) -> str | None:
    """Return a time in RFC 3339, UTC, with milliseconds."""
    if value is None:
        return None
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def serialize_job(job: Job) -> dict[str, Any]:
    """Return a job with its result, as its owner sees it."""
    body = serialize_listed_job(job)
    if has_completion(job):
        body["result"] = serialize_completion(job)
    return body


def has_completion(job: Job) -> bool:
    """Return whether the job has a completion; retention may have deleted it."""
    if job.state == JobState.SUCCEEDED:
        return job.choices is not None
    return job.state == JobState.CANCELLED and bool(job.choices)


def serialize_listed_job(job: Job) -> dict[str, Any]:
    """Return a job without its result."""
    body: dict[str, Any] = {
        "id": format_id(Prefix.JOB, job.id),
        "object": "job",
        "status": job.state,
        "keyId": format_id(Prefix.KEY, job.api_key_id),
        "model": job.model,
        "queue": job.queue,
        "attempt": job.attempt,
        "createdAt": format_time(job.created_at),
        "startedAt": format_time(job.started_at),
        "firstTokenAt": format_time(job.first_token_at),
        "finishedAt": format_time(job.finished_at),
        "expiresAt": format_time(job.expires_at),
        "cancelRequestedAt": format_time(job.cancel_requested_at),
        "metadata": job.request.get("metadata"),
    }
    if job.batch_id is not None:
        body["batchId"] = format_id(Prefix.BATCH, job.batch_id)
        body["line"] = job.line
        body["customId"] = job.custom_id
    if job.texts_deleted_at is not None:
        body["textsDeletedAt"] = format_time(job.texts_deleted_at)
    if job.error is not None:
        body["error"] = job.error
    if job.is_final:
        body["usage"] = serialize_usage(job)
    return body


def serialize_completion_head(job: Job) -> dict[str, Any]:
    """Return the first fields of a completion and of each event of its stream."""
    return {
        "id": format_id(Prefix.JOB, job.id),
        "object": "text_completion",
        "created": int(job.created_at.timestamp()),
        "model": job.model,
    }


def serialize_completion(job: Job) -> dict[str, Any]:
    """Return a completion as the API publishes it."""
    body = {
        **serialize_completion_head(job),
        "choices": choices_of(job),
        "usage": serialize_usage(job),
    }
    if job.is_cached:
        body["cached"] = True
    return body


def choices_of(job: Job) -> list[dict[str, Any]]:
    """Return the choices of a job.

    They are empty if the job was cancelled before it generated any.
    """
    if job.choices is not None or job.state != JobState.CANCELLED:
        return job.choices or []
    count = int(job.request.get("n", 1))
    return [{"text": "", "index": i, "finish_reason": "cancelled"} for i in range(count)]


def serialize_usage(job: Job) -> dict[str, int]:
    """Return the usage of a job; zero if it never began."""
    if job.is_final and job.started_at is None:
        return dict.fromkeys(
            ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens"), 0
        )
    return {
        "prompt_tokens": job.prompt_tokens,
        "completion_tokens": job.completion_tokens,
        "total_tokens": job.prompt_tokens + job.completion_tokens,
        "cached_tokens": job.cached_tokens,
    }
