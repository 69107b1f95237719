"""A job is charged once, and settled or released once."""

from __future__ import annotations

import redis

from core.ids import new_id
from core.limits.limiter import Limiter
from tests.support.factories.charges import charge, counts
from tests.support.factories.limit_key import Clock, Key


def test_a_job_is_charged_once_for_all_its_attempts(limiter: Limiter) -> None:
    key, job = Key(max_in_flight=1), new_id()
    charge(limiter, key, tokens=7, job=job)

    charge(limiter, key, tokens=7, job=job)

    assert counts(limiter, key) == (1, 7, 1, 7)


def test_a_settled_job_returns_its_unused_tokens_once(limiter: Limiter) -> None:
    key, job = Key(), new_id()
    charge(limiter, key, tokens=100, job=job)
    charge(limiter, key, tokens=100)

    for _ in range(2):
        limiter.settle(key.id, job, 30)

    assert counts(limiter, key) == (2, 130, 1, 130)


def test_a_past_minute_gets_no_tokens_back(limiter: Limiter, clock: Clock) -> None:
    key, job = Key(), new_id()
    charge(limiter, key, tokens=100, job=job)
    clock.now += 60
    charge(limiter, key, tokens=100)

    limiter.settle(key.id, job, 30)

    assert counts(limiter, key) == (1, 100, 1, 130)


def test_a_release_undoes_the_whole_charge(limiter: Limiter) -> None:
    key, job = Key(), new_id()
    charge(limiter, key, tokens=100, job=job)

    for _ in range(2):
        limiter.release(key.id, job)

    assert counts(limiter, key) == (0, 0, 0, 0)


def test_many_settles_share_one_pipeline(redis_client: redis.Redis, limiter: Limiter) -> None:
    key, jobs = Key(), [new_id() for _ in range(3)]
    for job in jobs:
        charge(limiter, key, tokens=10, job=job)

    with redis_client.pipeline(transaction=False) as pipe:
        for job in jobs:
            limiter.settle(key.id, job, 4, pipe=pipe)
        assert counts(limiter, key)[2] == 3
        pipe.execute()

    assert counts(limiter, key) == (3, 12, 0, 12)


def test_a_key_without_jobs_in_flight_is_not_busy(limiter: Limiter) -> None:
    key, job = Key(), new_id()
    charge(limiter, key, job=job)

    limiter.settle(key.id, job, 1)

    assert list(limiter.busy_keys()) == []
