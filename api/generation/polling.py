"""The limit of polls: requests that ask for the state of a job or batch."""

from __future__ import annotations

from uuid import UUID

from api.services import Services
from core.limits.minute_counts import CountedAction


def charge_poll(services: Services, poller_id: UUID) -> None:
    """Count one poll of a key or, without a key, of a user.

    Raises:
        RateLimited: more than `POLL_RATE_LIMIT` polls in this minute.
    """
    limit = services.settings.poll_rate_limit
    services.limits.minute_counts.charge(poller_id, CountedAction.POLLS, limit=limit)
