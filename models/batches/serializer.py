"""Batches as the JSON of the API and of webhooks."""

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
        running: the number of running lines, from `count_running`; 0 for a batch that has ended.
        now: the time of the database's clock; without it the rate of a running batch is unknown.
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
            # Lines may begin or end after the read of the row: the count must not become negative.
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
    """Return the lines done per second since the first one began; `None` if unknown.

    Cancelled and expired lines cost no time, so the rate does not count them.
    """
    until = batch.finished_at or now
    if batch.started_at is None or until is None:
        return None
    seconds = (until - batch.started_at).total_seconds()
    return (batch.succeeded + batch.failed) / seconds if seconds > 0 else None
