"""What feeders are told of batches after a commit: they look by themselves soon enough, too."""

from __future__ import annotations

import logging
from uuid import UUID

import redis

from api.services import Services
from core.events.batch_events import publish_batch_change
from models.batches.batch import Batch
from models.batches.cancellation import ask_to_cancel_batch

_log = logging.getLogger(__name__)


def cancel_batch(services: Services, batch_id: UUID) -> Batch | None:
    """Let a batch end; returns it as it is then, `None` if it has ended before."""
    with services.database.sessions.begin() as session:
        batch = ask_to_cancel_batch(session, batch_id)
    if batch is not None:
        notify_dispatchers(services)
    return batch


def notify_dispatchers(services: Services) -> None:
    """Let the feeders look at the batches now."""
    try:
        publish_batch_change(services.redis_client)
    except redis.RedisError:
        _log.warning("feeders could not be told: they will see it in the rows")
