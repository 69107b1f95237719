from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import redis

from core.config.settings import Settings
from core.errors import RateLimited, Unauthorized, Unavailable
from core.limits.throttle import Throttle, ThrottleRule
from core.redis.client import open_redis
from tests.support.polling import wait_until

RULE = ThrottleRule("login", per_address=5, per_email=3, per_email_anywhere=6, window_seconds=60)


def fail(
    throttle: Throttle,
    *,
    address: str = "192.0.2.1",
    email: str = "a@b.c",
    rule: ThrottleRule = RULE,
) -> None:
    """Make one failing attempt."""
    with suppress(Unauthorized), throttle.attempt(rule, address=address, email=email):
        raise Unauthorized("no")


def seconds_to_wait(throttle: Throttle, **who: str) -> int:
    with pytest.raises(RateLimited) as caught:
        fail(throttle, **who)
    assert caught.value.code == "too_many_attempts"
    return int(caught.value.headers["Retry-After"])


def succeed(throttle: Throttle, *, address: str, email: str = "a@b.c") -> None:
    with throttle.attempt(RULE, address=address, email=email) as attempt:
        attempt.succeed()


def test_an_email_is_limited_from_one_address(redis_client: redis.Redis) -> None:
    throttle = Throttle(redis_client)
    for n in range(3):
        fail(throttle, email="A@b.c" if n else "a@B.c")

    assert 1 <= seconds_to_wait(throttle) <= 60
    fail(throttle, address="192.0.2.9")
    fail(throttle, email="other@b.c")


def test_an_email_is_limited_over_all_addresses(redis_client: redis.Redis) -> None:
    throttle = Throttle(redis_client)
    for n in range(6):
        fail(throttle, address=f"192.0.2.{n}")

    assert 1 <= seconds_to_wait(throttle, address="192.0.2.9") <= 60
    fail(throttle, address="192.0.2.9", email="other@b.c")


def test_a_known_address_is_not_refused_for_attempts_of_others(redis_client: redis.Redis) -> None:
    throttle = Throttle(redis_client)
    succeed(throttle, address="192.0.2.1")
    for n in range(2, 8):
        fail(throttle, address=f"192.0.2.{n}")

    succeed(throttle, address="192.0.2.1")
    assert seconds_to_wait(throttle, address="192.0.2.9")
    for _ in range(3):
        fail(throttle, address="192.0.2.1")
    assert seconds_to_wait(throttle, address="192.0.2.1")  # for its own wrong passwords


def test_an_address_known_for_one_email_is_unknown_for_another(
    redis_client: redis.Redis,
) -> None:
    throttle = Throttle(redis_client)
    succeed(throttle, address="192.0.2.1")
    for n in range(2, 8):
        fail(throttle, address=f"192.0.2.{n}", email="other@b.c")

    assert seconds_to_wait(throttle, address="192.0.2.1", email="other@b.c")


def test_lifting_deletes_the_attempts_of_one_email(redis_client: redis.Redis) -> None:
    throttle = Throttle(redis_client)
    for n in range(6):
        fail(throttle, address=f"192.0.2.{n}")
        fail(throttle, address=f"198.51.100.{n}", email="other@b.c")

    assert throttle.lift("A@B.c") == 7

    fail(throttle, address="192.0.2.9")
    assert seconds_to_wait(throttle, address="192.0.2.9", email="other@b.c")


def test_an_address_is_limited_over_all_emails(redis_client: redis.Redis) -> None:
    throttle = Throttle(redis_client)
    for n in range(5):
        fail(throttle, email=f"{n}@b.c")

    assert 1 <= seconds_to_wait(throttle, email="9@b.c") <= 60
    fail(throttle, email="9@b.c", address="192.0.2.2")


@pytest.mark.parametrize(
    ("first", "second", "are_one"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_an_ipv6_address_counts_as_its_network(
    redis_client: redis.Redis, first: str, second: str, are_one: bool
) -> None:
    throttle = Throttle(redis_client)
    for n in range(5):
        fail(throttle, address=first, email=f"{n}@b.c")

    if are_one:
        seconds_to_wait(throttle, address=second, email="x@b.c")
    else:
        fail(throttle, address=second, email="x@b.c")


def test_concurrent_attempts_do_not_exceed_the_limit(
    redis_client: redis.Redis, base_settings: Settings
) -> None:
    clients = [open_redis(base_settings) for _ in range(4)]
    throttles = [Throttle(other) for other in clients]
    judged = []

    def attempt(n: int) -> None:
        with (
            suppress(RateLimited, Unauthorized),
            throttles[n % 4].attempt(RULE, address="192.0.2.1", email="a@b.c"),
        ):
            judged.append(n)
            raise Unauthorized("no")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(attempt, range(64)))
    for other in clients:
        other.close()

    assert len(judged) == 3


def test_a_refused_attempt_is_not_charged_and_names_the_true_wait(
    redis_client: redis.Redis,
) -> None:
    throttle = Throttle(redis_client)
    rule = ThrottleRule("login", per_address=5, per_email=1, per_email_anywhere=1, window_seconds=1)
    fail(throttle, rule=rule)

    def passes() -> bool:
        try:
            fail(throttle, rule=rule)
        except RateLimited as error:
            assert 0 < int(error.headers["retry-after-ms"]) <= 1000
            return False
        return True

    wait_until(passes, 1.5)  # refused attempts do not prolong it


def test_a_success_clears_the_email_and_returns_one_attempt_to_the_address(
    redis_client: redis.Redis,
) -> None:
    throttle = Throttle(redis_client)
    for _ in range(2):
        fail(throttle)
    succeed(throttle, address="192.0.2.1")

    for _ in range(3):
        fail(throttle)
    assert seconds_to_wait(throttle, email="other@b.c")  # five of five from the address


def test_a_success_does_not_clear_attempts_on_other_emails(redis_client: redis.Redis) -> None:
    throttle = Throttle(redis_client)
    for n in range(4):
        fail(throttle, email=f"{n}@b.c")
        succeed(throttle, address="192.0.2.1", email="own@b.c")
    fail(throttle, email="4@b.c")

    assert seconds_to_wait(throttle, email="5@b.c")


@pytest.mark.parametrize(
    "error", [Unavailable("away"), RateLimited("many", retry_after_seconds=1), ZeroDivisionError()]
)
def test_an_error_of_the_service_costs_no_attempt(
    redis_client: redis.Redis, error: Exception
) -> None:
    throttle = Throttle(redis_client)

    for _ in range(10):
        with (
            suppress(type(error)),
            throttle.attempt(RULE, address="192.0.2.1", email="a@b.c"),
        ):
            raise error

    fail(throttle)


def test_every_counter_expires_and_contains_no_email(redis_client: redis.Redis) -> None:
    fail(Throttle(redis_client), email="secret@example.com")

    keys = redis_client.keys("*")

    assert len(keys) == 3
    assert all(0 < redis_client.ttl(key) <= 60 for key in keys)
    assert b"example" not in b"".join(keys)


def test_a_late_return_creates_no_counter_without_expiry(redis_client: redis.Redis) -> None:
    throttle = Throttle(redis_client)
    with throttle.attempt(RULE, address="192.0.2.1", email="a@b.c") as attempt:
        redis_client.flushall()
        attempt.succeed()
        attempt.forget()

    assert [key for key in redis_client.keys("*") if b":known:" not in key] == []
