"""Batches as their owners live them: with real workers, which die."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from core.batch_news import tell_feeders
from core.settings import Settings
from models.base import SessionFactory
from models.batch_changes import ask_to_cancel_batch
from models.usage_check import compare_batches, compare_jobs, compare_roll_ups
from tests.faults.bulk import Faults, check_all, count_ended, has_completed, lay_down
from tests.models.batches import batch_of, lines_by_state
from tests.service import Service, wait_until


@pytest.fixture
def slow(
    base_settings: Settings, client: redis.Redis, database: Any, tmp_path: Path
) -> Iterator[Service]:
    """A worker whose lines take about half a second."""
    changes = {"echo_tokens_per_second": 10.0, "lease_seconds": 3.0, "max_attempts": 50}
    with Service.started(base_settings, tmp_path, **changes) as service:
        yield service


def test_a_batch_survives_kills_and_counts_each_line_once(
    slow: Service, database: SessionFactory
) -> None:
    faults = Faults(slow, random.Random(7))
    batch_id = lay_down(database, 200)

    wait_until(lambda: count_ended(database, batch_id) > 20, 20, slow.logs)
    faults.kill_worker()
    faults.kill_api()
    wait_until(lambda: has_completed(database, batch_id), 40, slow.logs)

    check_all(database, batch_id, 200)


def test_a_cancelled_batch_ends_within_moments_and_keeps_what_was_done(
    slow: Service, database: SessionFactory, client: redis.Redis
) -> None:
    batch_id = lay_down(database, 5000)
    wait_until(lambda: count_ended(database, batch_id) > 0, 20, slow.logs)

    with database.begin() as session:
        ask_to_cancel_batch(session, batch_id)
    tell_feeders(client)
    asked = time.monotonic()
    wait_until(lambda: has_completed(database, batch_id), 10, slow.logs)

    assert time.monotonic() - asked < 5
    with database() as session:
        batch = batch_of(session, batch_id)
        assert batch.state == "cancelled" and batch.succeeded > 0
        assert lines_by_state(session, batch_id) == {
            "succeeded": batch.succeeded,
            "cancelled": batch.cancelled,
        }
        for compare in (compare_jobs, compare_roll_ups, compare_batches):
            assert list(compare(session, since=None, until=None)) == []
