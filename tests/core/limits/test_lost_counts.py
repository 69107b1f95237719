"""Counts that Redis has lost are read from the database."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import redis

from core.errors import RateLimited
from core.ids import new_id
from core.limits.limiter import Limiter
from core.limits.state import KeyUse
from tests.support.factories.charges import charge, counts, refusal
from tests.support.factories.limit_key import MINUTE, Clock, Key, nothing


def test_lost_data_is_read_from_the_database_by_the_next_charge(
    redis_client: redis.Redis, limiter: Limiter
) -> None:
    key, jobs = Key(monthly_token_limit=1000, max_in_flight=3), [new_id(), new_id()]
    asked = []

    def recall(month_began: datetime) -> KeyUse:
        asked.append(month_began)
        return KeyUse(600, {job: 100 for job in jobs})

    redis_client.flushall()
    state = limiter.charge(key, new_id(), tokens=100, recall=recall)
    limiter.settle(key.id, jobs[0], 40)

    assert asked == [datetime(2026, 11, 1, tzinfo=UTC)]
    assert (state.month.used, state.in_flight.used) == (900, 3)
    assert counts(limiter, key) == (1, 100, 2, 840)
    assert refusal(limiter, key, tokens=161).code == "monthly_quota_exceeded"


def test_a_settle_after_a_loss_leaves_the_rest_to_the_database(
    redis_client: redis.Redis, limiter: Limiter
) -> None:
    key, job = Key(), new_id()
    charge(limiter, key, tokens=10, job=job)
    redis_client.delete(f"limit:{key.id.hex}")

    limiter.settle(key.id, job, 10)

    state = limiter.read(key, recall=lambda _: KeyUse(10))
    assert (state.month.used, state.in_flight.used) == (10, 0)


def test_a_job_unknown_to_the_database_is_not_in_flight_after_a_loss(
    redis_client: redis.Redis, limiter: Limiter
) -> None:
    key = Key()
    charge(limiter, key, tokens=10)
    redis_client.delete(f"limit:{key.id.hex}")

    state = limiter.read(key, recall=nothing)

    assert (state.in_flight.used, state.month.used) == (0, 0)
    assert list(limiter.busy_keys()) == []


def test_a_month_that_ends_during_its_recall_is_not_charged_to_the_next(
    limiter: Limiter, clock: Clock
) -> None:
    clock.now = datetime(2026, 12, 1, tzinfo=UTC).timestamp() - 0.001

    def recall(_: datetime) -> KeyUse:
        clock.now += 1
        return KeyUse(500)

    assert limiter.read(Key(), recall=recall).month.used == 0


def test_a_clock_set_back_over_the_month_reads_the_database(limiter: Limiter, clock: Clock) -> None:
    key = Key(monthly_token_limit=100)
    clock.now += 30 * 86400
    charge(limiter, key)
    clock.now -= 30 * 86400

    with pytest.raises(RateLimited):
        limiter.charge(key, new_id(), tokens=1, recall=lambda _: KeyUse(100))


def test_jobs_in_flight_are_listed_with_their_charge_and_restored(limiter: Limiter) -> None:
    key, held, lost = Key(), new_id(), new_id()
    charge(limiter, key, tokens=10, job=held)

    limiter.restore(key.id, {lost: 20, held: 99})

    listed = limiter.in_flight(key.id)
    assert {job: one.tokens for job, one in listed.items()} == {held: 10, lost: 20}
    assert listed[held].charged_at == datetime.fromtimestamp(MINUTE, UTC)
    assert counts(limiter, key) == (1, 10, 2, 30)
    assert list(limiter.busy_keys()) == [key.id]
