"""Looks at jobs and batches: polling has a generous limit of its own."""

from __future__ import annotations

from uuid import UUID

from api.auth.authentication import Caller
from api.services import Services
from core.limits.minute_counts import Counted


def count_look(services: Services, caller: Caller) -> None:
    """Count one look of a caller.

    Raises:
        RateLimited: the caller looks too often.
    """
    caller_id = caller.key.id if caller.key is not None else caller.user.id
    count_look_of(services, caller_id)


def count_look_of(services: Services, caller_id: UUID) -> None:
    """Count one look of a key or a user.

    Raises:
        RateLimited: it looks too often.
    """
    limit = services.settings.poll_rate_limit
    services.limits.minute_counts.charge(caller_id, Counted.LOOKS, limit=limit)
