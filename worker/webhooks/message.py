"""Encodes a webhook's body: event, time, and the job or batch as in the API."""

from __future__ import annotations

import json
from typing import Any

from models.jobs.job import Job
from models.jobs.serializer import serialize_job
from models.webhooks.webhook import WebhookDelivery

#: A larger result is omitted; its owner reads it from the API.
MAX_BODY_BYTES = 1024**2


def encode_message(delivery: WebhookDelivery, job: Job | None) -> bytes:
    """Return the body. Without a result for a batch, or a job whose row was deleted."""
    body = _encode(delivery, delivery.payload)
    result = serialize_job(job).get("result") if job is not None else None
    if result is None:
        return body
    whole = _encode(delivery, {**delivery.payload, "result": result})
    if len(whole) <= MAX_BODY_BYTES:
        return whole
    return _encode(delivery, {**delivery.payload, "resultOmitted": True})


def _encode(delivery: WebhookDelivery, data: dict[str, Any]) -> bytes:
    message = {"type": delivery.event, "timestamp": data["finishedAt"], "data": data}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
