"""The limiter passes exactly what the limits of a key allow."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from core.errors import RateLimited
from core.ids import new_id
from core.limits.limiter import Limiter
from tests.support.factories.charges import charge, counts, refusal
from tests.support.factories.limit_key import MINUTE, Clock, Key

HARD = "x-should-retry"


def accepted(limiter: Limiter, key: Key, *, tries: int, tokens: int = 1) -> int:
    """Charge from many threads at once; return how many charges passed."""

    def passes(_: int) -> bool:
        try:
            charge(limiter, key, tokens=tokens)
        except RateLimited:
            return False
        return True

    with ThreadPoolExecutor(32) as pool:
        return sum(pool.map(passes, range(tries)))


@pytest.mark.parametrize(
    ("key", "tokens"),
    [
        (Key(rate_limit=60), 1),
        (Key(token_limit=600), 10),
        (Key(max_in_flight=60), 1),
        (Key(monthly_token_limit=606), 10),
    ],
    ids=["requests", "tokens", "in flight", "month"],
)
def test_exactly_the_limit_passes_among_concurrent_requests(
    redis_client: redis.Redis, clock: Clock, key: Key, tokens: int
) -> None:
    first, second = Limiter(redis_client, clock=clock), Limiter(redis_client, clock=clock)

    assert accepted(first, key, tries=300, tokens=tokens) == 60
    assert accepted(second, key, tries=50, tokens=tokens) == 0


def test_the_next_minute_starts_at_zero(limiter: Limiter, clock: Clock) -> None:
    key = Key(rate_limit=60, token_limit=100)
    assert accepted(limiter, key, tries=100) == 60

    clock.now += 59.999
    assert accepted(limiter, key, tries=10) == 0
    clock.now += 0.001
    assert accepted(limiter, key, tries=100) == 60


def test_the_clock_is_that_of_redis_and_not_of_the_process(redis_client: redis.Redis) -> None:
    state = charge(Limiter(redis_client), Key())

    seconds, microseconds = redis_client.time()
    ahead = seconds + microseconds / 1e6 - state.now.timestamp()
    assert 0 <= ahead < 5


def test_months_are_those_of_the_calendar(redis_client: redis.Redis, clock: Clock) -> None:
    random = Random(4)
    first = datetime(2024, 2, 28, 23, 59, 59, tzinfo=UTC)
    moments = [first + timedelta(days=random.randrange(40_000)) for _ in range(300)]
    borders = [datetime(2028, 3, 1, tzinfo=UTC), datetime(2100, 3, 1, tzinfo=UTC)]
    for moment in [*moments, *borders, *(b - timedelta(milliseconds=1) for b in borders)]:
        clock.now = moment.timestamp()
        key = Key()

        charge(Limiter(redis_client, clock=clock), key)

        month = int(redis_client.hget(f"limit:{key.id.hex}", "month") or 0)
        assert divmod(month, 12) == (moment.year, moment.month - 1), moment


@pytest.mark.parametrize(
    ("key", "code", "seconds", "is_hopeless"),
    [
        (Key(rate_limit=1), "rate_limit_exceeded", 0.75, False),
        (Key(token_limit=15), "token_limit_exceeded", 0.75, False),
        (Key(token_limit=10, max_in_flight=1), "token_limit_exceeded", 0.75, False),
        (Key(max_in_flight=1), "too_many_in_flight", 1.0, False),
        (Key(monthly_token_limit=15), "monthly_quota_exceeded", 1.0, False),
        (Key(monthly_token_limit=9), "monthly_quota_exceeded", None, True),
        (Key(token_limit=9), "token_limit_exceeded", None, True),
    ],
)
def test_a_refusal_names_its_limit_and_when_a_request_would_pass(
    limiter: Limiter, clock: Clock, key: Key, code: str, seconds: float | None, is_hopeless: bool
) -> None:
    clock.now = datetime(2026, 12, 1, tzinfo=UTC).timestamp() - 0.75
    if not is_hopeless:
        charge(limiter, key, tokens=10)
    before = counts(limiter, key)

    error = refusal(limiter, key, tokens=10)

    assert error.code == code
    milliseconds = None if seconds is None else f"{seconds * 1000:.0f}"
    assert error.headers.get("Retry-After") == (None if seconds is None else "1")
    assert error.headers.get("retry-after-ms") == milliseconds
    assert error.headers.get(HARD) == ("false" if is_hopeless else None)
    assert counts(limiter, key) == before


def test_the_refusal_of_a_used_up_quota_names_the_end_of_the_month(
    limiter: Limiter, clock: Clock
) -> None:
    key, job = Key(monthly_token_limit=10), new_id()
    charge(limiter, key, tokens=10, job=job)
    limiter.settle(key.id, job, 10)

    error = refusal(limiter, key)

    rest = datetime(2026, 12, 1, tzinfo=UTC).timestamp() - MINUTE
    assert error.headers["Retry-After"] == f"{rest:.0f}"
    assert error.headers[HARD] == "false"
    clock.now += rest
    charge(limiter, key, tokens=10)


def test_the_headers_contain_only_limits_that_are_set(limiter: Limiter, clock: Clock) -> None:
    clock.now += 17.5

    bare = charge(limiter, Key(rate_limit=3)).headers
    full = charge(limiter, Key(rate_limit=3, token_limit=100), tokens=30).headers

    assert bare == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "43s",
    }
    assert full == {
        **bare,
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "70",
        "x-ratelimit-reset-tokens": "43s",
    }


def test_usage_of_one_key_is_not_charged_to_another(limiter: Limiter) -> None:
    charge(limiter, Key(rate_limit=1))

    assert charge(limiter, Key(rate_limit=1)).requests.remaining == 0


@pytest.mark.parametrize(
    "act",
    [
        lambda limiter: charge(limiter, Key()),
        lambda limiter: limiter.settle(new_id(), new_id(), 1),
    ],
    ids=["charge", "settle"],
)
def test_without_redis_nothing_passes(act: Callable[[Limiter], object]) -> None:
    away = redis.Redis(host="127.0.0.1", port=1, retry=Retry(NoBackoff(), 0))

    with pytest.raises(redis.RedisError):
        act(Limiter(away))
