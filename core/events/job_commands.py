"""Commands from API processes to the worker that runs a job: cancel it, or send its text.

Redis channels:
    job-requests   JSON: `[command, job id]`; every worker receives it, the one with the job acts

A command may be lost. The worker sees a cancel in the job's row when it next renews its leases. A
request that follows a text sends its command again.
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


def send_command(client: redis.Redis, command: JobCommand, job_id: UUID) -> None:
    """Send a command to the worker that runs the job, if there is one.

    Raises:
        redis.RedisError: Redis is away.
    """
    client.publish(CHANNEL, json.dumps([command, job_id.hex]))


def send_cancels(client: redis.Redis, job_ids: Iterable[UUID]) -> None:
    """Send cancels of jobs; if Redis is away, the workers see them in the rows."""
    try:
        with client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                send_command(pipe, JobCommand.CANCEL, job_id)
            pipe.execute()
    except redis.RedisError:
        _log.warning("cancels could not be sent: workers will see them in the rows")


def subscribe_to_commands(
    client: redis.Redis, act: Callable[[JobCommand, UUID], None]
) -> Subscription:
    """Return a subscription that calls `act` with each command."""

    def on_message(data: bytes) -> None:
        command, job = json.loads(data)
        act(JobCommand(command), UUID(hex=job))

    return Subscription(client, CHANNEL, on_message=on_message)
