from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from core.errors import RateLimited
from core.ids import new_id
from core.limits.minute_counts import CountedAction, MinuteLimiter
from tests.support.factories.limit_key import Clock


@pytest.fixture
def counts(redis_client: redis.Redis, clock: Clock) -> MinuteLimiter:
    return MinuteLimiter(redis_client, clock=clock)


def passes(count: Callable[[], None]) -> bool:
    try:
        count()
    except RateLimited:
        return False
    return True


def test_a_caller_is_limited_in_each_minute(counts: MinuteLimiter, clock: Clock) -> None:
    caller = new_id()
    clock.now += 50
    for _ in range(5):
        counts.charge(caller, CountedAction.WRITES, limit=5)

    with pytest.raises(RateLimited) as caught:
        counts.charge(caller, CountedAction.WRITES, limit=5)

    assert caught.value.code == "too_many_writes"
    assert caught.value.headers["Retry-After"] == "10"
    counts.charge(caller, CountedAction.POLLS, limit=5)
    counts.charge(new_id(), CountedAction.WRITES, limit=5)
    clock.now += 10
    counts.charge(caller, CountedAction.WRITES, limit=5)


def test_an_amount_above_the_limit_passes_alone(counts: MinuteLimiter, clock: Clock) -> None:
    caller = new_id()

    def send(size: int) -> bool:
        return passes(
            lambda: counts.charge(caller, CountedAction.UPLOAD_BYTES, limit=100, amount=size)
        )

    assert [send(500), send(1)] == [True, False]
    clock.now += 60
    assert [send(60), send(40), send(1)] == [True, True, False]


def test_concurrent_calls_are_counted_exactly(redis_client: redis.Redis, clock: Clock) -> None:
    caller = new_id()
    processes = [MinuteLimiter(redis_client, clock=clock) for _ in range(4)]

    with ThreadPoolExecutor(8) as pool:
        passed = pool.map(
            lambda n: passes(
                lambda: processes[n % 4].charge(caller, CountedAction.WRITES, limit=30)
            ),
            range(100),
        )

    assert sum(passed) == 30


def test_without_redis_a_charge_fails() -> None:
    away = redis.Redis(host="127.0.0.1", port=1, retry=Retry(NoBackoff(), 0))

    with pytest.raises(redis.RedisError):
        MinuteLimiter(away).charge(new_id(), CountedAction.POLLS, limit=1)
