"""How users, keys, jobs and answers look in JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from core.ids import Prefix, show_id
from models.api_key import ApiKey
from models.job import Job, JobState
from models.user import User


def show_time(value: datetime | None) -> str | None:
    """Return a time in RFC 3339, UTC, with milliseconds."""
    if value is None:
        return None
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def show_user(user: User) -> dict[str, Any]:
    return {
        "id": show_id(Prefix.USER, user.id),
        "email": user.email,
        "name": user.name,
        "role": user.role,
        "createdAt": show_time(user.created_at),
    }


def show_key(key: ApiKey) -> dict[str, Any]:
    return {
        "id": show_id(Prefix.KEY, key.id),
        "userId": show_id(Prefix.USER, key.user_id),
        "name": key.name,
        "prefix": f"bc_{key.public_id}",
        "rateLimit": key.rate_limit,
        "priority": key.priority,
        "isActive": key.is_active,
        "expiresAt": show_time(key.expires_at),
        "lastUsed": show_time(key.last_used_at),
        "createdAt": show_time(key.created_at),
    }


def show_job(job: Job) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": show_id(Prefix.JOB, job.id),
        "object": "job",
        "status": job.state,
        "model": job.model,
        "attempt": job.attempt,
        "createdAt": show_time(job.created_at),
        "startedAt": show_time(job.started_at),
        "finishedAt": show_time(job.finished_at),
    }
    if job.state == JobState.SUCCEEDED:
        shown["result"] = show_completion(job)
    if job.error is not None:
        shown["error"] = job.error
    if job.is_final:
        shown["usage"] = show_usage(job)
    return shown


def show_completion(job: Job) -> dict[str, Any]:
    """Return the answer in the product document's shape."""
    return {
        "id": show_id(Prefix.JOB, job.id),
        "object": "text_completion",
        "created": int(job.created_at.timestamp()),
        "model": job.model,
        "choices": job.choices,
        "usage": show_usage(job),
    }


def show_usage(job: Job) -> dict[str, int]:
    return {
        "prompt_tokens": job.prompt_tokens,
        "completion_tokens": job.completion_tokens,
        "total_tokens": job.prompt_tokens + job.completion_tokens,
        "cached_tokens": job.cached_tokens,
    }
