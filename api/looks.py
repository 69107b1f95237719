"""Looks at jobs and batches: polling has a generous limit of its own."""

from __future__ import annotations

from api.authentication import Caller
from api.services import Services


def count_look(services: Services, caller: Caller) -> None:
    """Count one look of a caller.

    Raises:
        RateLimited: the caller looks too often.
    """
    caller_id = caller.key.id if caller.key is not None else caller.user.id
    services.limiter.charge_poll(caller_id, services.settings.poll_rate_limit)
