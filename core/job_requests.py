"""What API processes ask of the worker that runs a job: cancel it, or tell its text.

Redis channels:
    job-requests   JSON: `[what, job id]`; every worker hears it, the one that has the job acts

A request can be lost: a cancel stands in the job's row too, where its worker sees it with its next
renewal of leases; whoever follows a text asks again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from uuid import UUID

import redis

from core.subscription import Subscription

CHANNEL = "job-requests"


class JobRequest(StrEnum):
    CANCEL = "cancel"
    TELL_TEXT = "tell_text"


def ask_worker(client: redis.Redis, request: JobRequest, job_id: UUID) -> None:
    """Ask the worker that runs the job, if one does.

    Raises:
        redis.RedisError: Redis is away.
    """
    client.publish(CHANNEL, json.dumps([request, job_id.hex]))


def listen_for_requests(
    client: redis.Redis, act: Callable[[JobRequest, UUID], None]
) -> Subscription:
    """Return the subscription that calls `act` with each request, once it is listened to."""

    def take(data: bytes) -> None:
        what, job = json.loads(data)
        act(JobRequest(what), UUID(hex=job))

    return Subscription(client, CHANNEL, on_message=take)
