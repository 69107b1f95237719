"""Fixtures of the dispatcher's tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from models.database.base import SessionFactory
from tests.support.factories.batches import have_workers
from worker.batches.dispatcher import Dispatcher


@pytest.fixture
def dispatch(database: SessionFactory, redis_client: redis.Redis) -> Callable[[], bool]:
    """One pass of a dispatcher. The workers have 10 slots, so 10 lines may be on the queue."""
    have_workers(redis_client, places=10)
    return Dispatcher(sessions=database, client=redis_client).run_once
