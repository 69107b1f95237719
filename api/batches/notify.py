"""Notifies the dispatchers of changed batches after a commit.

A lost event only delays them: they also poll.
"""

from __future__ import annotations

import logging
from uuid import UUID

import redis

from api.services import Services
from core.events.batch_events import publish_batch_change
from models.batches.batch import Batch
from models.batches.cancellation import request_batch_cancel

_log = logging.getLogger(__name__)


def cancel_batch(services: Services, batch_id: UUID) -> Batch | None:
    """Request the cancelling of a batch; return the batch, or `None` if it had ended."""
    with services.database.sessions.begin() as session:
        batch = request_batch_cancel(session, batch_id)
    if batch is not None:
        notify_dispatchers(services)
    return batch


def notify_dispatchers(services: Services) -> None:
    """Let the dispatchers check the batches now."""
    try:
        publish_batch_change(services.redis_client)
    except redis.RedisError:
        _log.warning("dispatchers could not be notified: they will find the change by polling")
