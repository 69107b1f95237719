"""Fixtures of the limits: a limiter, and its clock."""

from __future__ import annotations

import pytest
import redis

from core.limits.limiter import Limiter
from tests.support.factories.limit_key import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(redis_client: redis.Redis, clock: Clock) -> Limiter:
    return Limiter(redis_client, clock=clock)
