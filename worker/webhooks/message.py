"""What a receiver is sent: the event, its time, and the job or batch as the API shows it."""

from __future__ import annotations

import json
from typing import Any

from models.jobs.job import Job
from models.jobs.serializer import show_job
from models.webhooks.webhook import WebhookDelivery

#: A larger answer is left out; its owner reads it at the job's address.
MAX_BODY_BYTES = 1024**2


def write_message(delivery: WebhookDelivery, job: Job | None) -> bytes:
    """Return the body; a batch's has no answers, nor has that of a job whose row is gone."""
    body = _encode(delivery, delivery.payload)
    result = show_job(job).get("result") if job is not None else None
    if result is None:
        return body
    whole = _encode(delivery, {**delivery.payload, "result": result})
    if len(whole) <= MAX_BODY_BYTES:
        return whole
    return _encode(delivery, {**delivery.payload, "resultOmitted": True})


def _encode(delivery: WebhookDelivery, data: dict[str, Any]) -> bytes:
    message = {"type": delivery.event, "timestamp": data["finishedAt"], "data": data}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
