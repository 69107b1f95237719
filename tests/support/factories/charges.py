"""Charges of a key against its limits, and its counts."""

from __future__ import annotations

from uuid import UUID

import pytest

from core.errors import RateLimited
from core.ids import new_id
from core.limits.limiter import Limiter
from core.limits.state import LimitState
from tests.support.factories.limit_key import Key, nothing


def charge(limiter: Limiter, key: Key, *, tokens: int = 1, job: UUID | None = None) -> LimitState:
    return limiter.charge(key, job or new_id(), tokens=tokens, recall=nothing)


def refusal(limiter: Limiter, key: Key, *, tokens: int = 1) -> RateLimited:
    with pytest.raises(RateLimited) as caught:
        charge(limiter, key, tokens=tokens)
    return caught.value


def counts(limiter: Limiter, key: Key) -> tuple[int, int, int, int]:
    """Return requests and tokens of the minute, jobs in flight, and tokens of the month."""
    state = limiter.read(key, recall=nothing)
    return state.requests.used, state.tokens.used, state.in_flight.used, state.month.used
