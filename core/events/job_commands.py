"""What API processes ask of the worker that runs a job: cancel it, or tell its text.

Redis channels:
    job-requests   JSON: `[what, job id]`; every worker hears it, the one that has the job acts

A request can be lost: a cancel stands in the job's row too, where its worker sees it with its next
renewal of leases; whoever follows a text asks again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from enum import StrEnum
from uuid import UUID

import redis

from core.redis.subscription import Subscription

_log = logging.getLogger(__name__)

CHANNEL = "job-requests"


class JobCommand(StrEnum):
    CANCEL = "cancel"
    SEND_TEXT = "tell_text"


def send_command(client: redis.Redis, request: JobCommand, job_id: UUID) -> None:
    """Ask the worker that runs the job, if one does.

    Raises:
        redis.RedisError: Redis is away.
    """
    client.publish(CHANNEL, json.dumps([request, job_id.hex]))


def send_cancels(client: redis.Redis, job_ids: Iterable[UUID]) -> None:
    """Ask the workers that run these jobs to end them; with Redis away they see it in the rows."""
    try:
        with client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                send_command(pipe, JobCommand.CANCEL, job_id)
            pipe.execute()
    except redis.RedisError:
        _log.warning("cancels could not be told: workers will see them in the rows")


def subscribe_to_commands(
    client: redis.Redis, act: Callable[[JobCommand, UUID], None]
) -> Subscription:
    """Return the subscription that calls `act` with each request, once it is listened to."""

    def take(data: bytes) -> None:
        what, job = json.loads(data)
        act(JobCommand(what), UUID(hex=job))

    return Subscription(client, CHANNEL, on_message=take)
