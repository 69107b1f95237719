"""Serializes batches to the JSON of the API and of webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from core.ids import Prefix, format_id
from models.batches.batch import Batch, BatchState
from models.jobs.serializer import format_time


def serialize_batch(
    batch: Batch, *, running: int = 0, now: datetime | None = None
) -> dict[str, Any]:
    """Return a batch as its owner sees it.

    Args:
        running: of its lines, as `count_running` says; none of one that is final.
        now: by the clock of the database; without it the rate of a batch that runs is not known.
    """
    rate = _lines_per_second(batch, now)
    rest = batch.total - batch.ended
    is_running = batch.state == BatchState.RUNNING
    return {
        "id": format_id(Prefix.BATCH, batch.id),
        "object": "batch",
        "name": batch.name,
        "status": batch.state,
        "keyId": format_id(Prefix.KEY, batch.api_key_id),
        "model": batch.model,
        "endpoint": batch.endpoint,
        "total": batch.total,
        "counts": {
            # What ended or began since the row was read must not make it negative.
            "queued": max(0, rest - running),
            "running": min(running, rest),
            "succeeded": batch.succeeded,
            "failed": batch.failed,
            "cancelled": batch.cancelled,
            "expired": batch.expired,
        },
        "usage": {
            "prompt_tokens": batch.prompt_tokens,
            "completion_tokens": batch.completion_tokens,
            "total_tokens": batch.prompt_tokens + batch.completion_tokens,
            "cached_tokens": batch.cached_tokens,
        },
        "linesPerSecond": None if rate is None else round(rate, 3),
        "estimatedSeconds": round(rest / rate, 1) if rate and is_running else None,
        "onError": batch.on_error,
        "retryOf": format_id(Prefix.BATCH, batch.retry_of) if batch.retry_of else None,
        "webhookUrl": batch.webhook_url,
        "metadata": batch.labels,
        "createdAt": format_time(batch.created_at),
        "startedAt": format_time(batch.started_at),
        "cancelRequestedAt": format_time(batch.cancel_requested_at),
        "finishedAt": format_time(batch.finished_at),
        "expiresAt": format_time(batch.expires_at),
        "textsDeletedAt": format_time(batch.texts_deleted_at),
    }


def _lines_per_second(batch: Batch, now: datetime | None) -> float | None:
    """Return the lines that were done in each second since the first began, if one has.

    Those that were cancelled or expired cost no time: they are not counted.
    """
    until = batch.finished_at or now
    if batch.started_at is None or until is None:
        return None
    seconds = (until - batch.started_at).total_seconds()
    return (batch.succeeded + batch.failed) / seconds if seconds > 0 else None
