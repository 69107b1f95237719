from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from core.errors import RateLimited
from core.ids import new_id
from core.rate_limit import RateLimiter

MINUTE = 1_000_020.0  # begins a minute


class Clock:
    def __init__(self) -> None:
        self.now = MINUTE

    def __call__(self) -> float:
        return self.now


def accepted(limiter: RateLimiter, key: object, *, limit: int, tries: int) -> int:
    def charge(_: int) -> bool:
        try:
            limiter.charge(key, limit=limit)  # type: ignore[arg-type]
        except RateLimited:
            return False
        return True

    with ThreadPoolExecutor(32) as pool:
        return sum(pool.map(charge, range(tries)))


def test_exactly_the_limit_passes_in_a_minute_and_again_in_the_next(client: redis.Redis) -> None:
    clock, key = Clock(), new_id()
    first, second = RateLimiter(client, clock=clock), RateLimiter(client, clock=clock)

    assert accepted(first, key, limit=60, tries=300) == 60
    assert accepted(second, key, limit=60, tries=50) == 0
    clock.now += 60
    assert accepted(second, key, limit=60, tries=100) == 60


def test_a_refusal_says_when_a_request_would_pass(client: redis.Redis) -> None:
    clock, key = Clock(), new_id()
    limiter = RateLimiter(client, clock=clock)
    clock.now += 59.25
    limiter.charge(key, limit=1)

    with pytest.raises(RateLimited) as caught:
        limiter.charge(key, limit=1)

    assert caught.value.headers["Retry-After"] == "1"
    assert caught.value.headers["retry-after-ms"] == "750"
    assert caught.value.headers["x-ratelimit-remaining-requests"] == "0"


def test_an_accepted_request_says_what_is_left(client: redis.Redis) -> None:
    limiter, key = RateLimiter(client, clock=Clock()), new_id()

    assert limiter.charge(key, limit=3).remaining == 2
    assert limiter.charge(key, limit=3).remaining == 1


def test_one_keys_requests_are_not_charged_to_another(client: redis.Redis) -> None:
    limiter = RateLimiter(client, clock=Clock())
    limiter.charge(new_id(), limit=1)

    assert limiter.charge(new_id(), limit=1).remaining == 0
