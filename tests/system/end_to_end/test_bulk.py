"""Batches whose workers are killed, and a cancelled batch, with real processes."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from core.config.settings import Settings
from models.database.base import SessionFactory
from models.maintenance.consistency import compare_batches, compare_jobs
from models.maintenance.rollup_consistency import compare_roll_ups
from tests.support.factories.batches import batch_of, lines_by_state
from tests.support.polling import wait_until
from tests.support.service import Service
from tests.system.faults.bulk import (
    Faults,
    check_results,
    check_sums,
    count_ended,
    has_completed,
    send_batch,
)


@pytest.fixture
def slow_worker(
    base_settings: Settings, redis_client: redis.Redis, database: Any, tmp_path: Path
) -> Iterator[Service]:
    """A service whose worker takes about half a second for a line."""
    changes = {"echo_tokens_per_second": 10.0, "lease_seconds": 3.0, "max_attempts": 50}
    changes |= {"webhook_allowed_networks": "127.0.0.0/8"}
    with Service.started(base_settings, tmp_path, **changes) as service:
        yield service


def test_a_batch_survives_kills_and_counts_each_line_once(
    slow_worker: Service, database: SessionFactory
) -> None:
    faults = Faults(slow_worker, random.Random(7))
    sent = send_batch(slow_worker, 200)
    batch_id = sent.id

    wait_until(lambda: count_ended(database, batch_id) > 20, 20, slow_worker.logs)
    faults.kill_worker()
    faults.kill_api()
    wait_until(lambda: has_completed(database, batch_id), 40, slow_worker.logs)

    check_sums(database, batch_id, 200)
    check_results(slow_worker, sent, 200)


@pytest.mark.alone
def test_a_cancelled_batch_ends_soon_and_keeps_its_results(
    slow_worker: Service, database: SessionFactory
) -> None:
    sent = send_batch(slow_worker, 5000)
    batch_id = sent.id
    wait_until(lambda: count_ended(database, batch_id) > 0, 20, slow_worker.logs)

    asked = time.monotonic()
    response = slow_worker.call("POST", f"{sent.address}/cancel", headers=sent.headers)
    assert response.json()["status"] == "cancelling"
    wait_until(lambda: has_completed(database, batch_id), 10, slow_worker.logs)

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
