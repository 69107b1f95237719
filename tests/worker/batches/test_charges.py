"""The dispatcher charges lines to the month's quota of their key, and only to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from models.batches.cancellation import request_batch_cancel
from models.database.base import SessionFactory
from models.jobs.job import Job
from tests.support.factories.batches import (
    REQUEST,
    batch_of,
    have_workers,
    lines_by_state,
    new_batch,
)
from tests.support.worker.batch_runs import (
    USED,
    WANTED,
    month_of,
    new_key,
    run_to_the_end,
    sums_agree,
)
from worker.batches.dispatcher import Dispatcher
from worker.maintenance.limit_reconciler import LimitReconciler


def test_lines_charge_only_the_monthly_quota_of_their_key(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool]
) -> None:
    key = new_key(database, rate_limit=1, token_limit=1, max_in_flight=1)
    batch_id = new_batch(database, key, lines=20)

    dispatch()
    assert month_of(database, redis_client, key) == (10 * WANTED, 0)
    run_to_the_end(database, redis_client, dispatch, batch_id)

    assert month_of(database, redis_client, key) == (20 * USED, 0)


def test_a_line_waits_while_pending_charges_use_the_quota(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool]
) -> None:
    key = new_key(database, monthly_token_limit=20 * USED + WANTED)
    batch_id = new_batch(database, key, lines=20)
    other = new_batch(database, lines=40)

    run_to_the_end(database, redis_client, dispatch, batch_id, other)

    with database() as session:
        assert lines_by_state(session, batch_id) == {"succeeded": 20}
        assert sums_agree(session)


def test_lines_beyond_the_months_quota_fail_together_and_cost_nothing(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool]
) -> None:
    small = {**REQUEST, "maxTokens": 1}
    key = new_key(database, monthly_token_limit=5 * USED + WANTED - 1)
    requests = [REQUEST] * 2500 + [small]
    batch_id = new_batch(database, key, requests=requests, webhook_url="https://example.com/x")
    other = new_batch(database, lines=5)
    passes = 0

    def run_once() -> bool:
        nonlocal passes
        passes += 1
        return dispatch()

    run_to_the_end(database, redis_client, run_once, batch_id, other)

    with database() as session:
        batch = batch_of(session, batch_id)
        assert (batch.state, batch.succeeded + batch.failed) == ("completed", 2501)
        assert 5 <= batch.succeeded <= 6  # the small line fits if it is charged in time
        assert batch.prompt_tokens + batch.completion_tokens == batch.succeeded * USED
        failed = session.scalars(select(Job).where(Job.state == "failed").limit(1)).one()
        assert failed.error is not None and failed.error["code"] == "monthly_quota_exceeded"
        assert sums_agree(session)
    assert passes < 20


def test_the_charge_of_a_line_cancelled_before_its_release_is_returned(
    database: SessionFactory, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_workers(redis_client, places=10)
    key = new_key(database, monthly_token_limit=1000)
    batch_id = new_batch(database, key, lines=3)

    def fail(*_: Any) -> Any:
        raise OperationalError("update", {}, Exception("connection refused"))

    monkeypatch.setattr("worker.batches.dispatcher.release_lines", fail)
    dispatcher = Dispatcher(sessions=database, client=redis_client)
    with pytest.raises(OperationalError):
        dispatcher.run_once()
    monkeypatch.undo()
    assert month_of(database, redis_client, key) == (3 * WANTED, 0)
    with database.begin() as session:
        request_batch_cancel(session, batch_id)
    dispatcher.run_once()

    LimitReconciler(sessions=database, client=redis_client).reconcile()

    assert month_of(database, redis_client, key) == (0, 0)
