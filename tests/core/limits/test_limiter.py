from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from core.errors import RateLimited
from core.ids import new_id
from core.limits.limiter import ChargeVerdict, Limiter, LineCharge
from core.limits.state import KeyUse, LimitState
from tests.support.factories.limit_key import MINUTE, Clock, Key, nothing

HARD = "x-should-retry"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(redis_client: redis.Redis, clock: Clock) -> Limiter:
    return Limiter(redis_client, clock=clock)


def charge(limiter: Limiter, key: Key, *, tokens: int = 1, job: UUID | None = None) -> LimitState:
    return limiter.charge(key, job or new_id(), tokens=tokens, recall=nothing)


def refusal(limiter: Limiter, key: Key, *, tokens: int = 1) -> RateLimited:
    with pytest.raises(RateLimited) as caught:
        charge(limiter, key, tokens=tokens)
    return caught.value


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


def counts(limiter: Limiter, key: Key) -> tuple[int, int, int, int]:
    """Return requests and tokens of the minute, jobs in flight, and tokens of the month."""
    state = limiter.read(key, recall=nothing)
    return state.requests.used, state.tokens.used, state.in_flight.used, state.month.used


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


def line(key: Key, tokens: int, job: UUID | None = None) -> LineCharge:
    return LineCharge(job or new_id(), key.id, tokens, key.monthly_token_limit)


def charge_lines(limiter: Limiter, *lines: LineCharge) -> list[ChargeVerdict]:
    verdicts = limiter.charge_lines(lines, recall=lambda _, began: nothing(began))
    return [one.verdict for one in verdicts]


def test_a_line_is_charged_only_for_the_month(limiter: Limiter) -> None:
    key = Key(rate_limit=1, token_limit=10, max_in_flight=1, monthly_token_limit=1000)

    assert charge_lines(limiter, line(key, 300), line(key, 200)) == [ChargeVerdict.CHARGED] * 2

    assert counts(limiter, key) == (0, 0, 0, 500)
    charge(limiter, key, tokens=10)
    assert counts(limiter, key) == (1, 10, 1, 510)


def test_a_line_is_charged_once_and_settled_once(limiter: Limiter) -> None:
    key, job = Key(), new_id()

    charge_lines(limiter, line(key, 300, job), line(key, 300, job))
    charge_lines(limiter, line(key, 300, job))
    assert counts(limiter, key) == (0, 0, 0, 300)
    assert list(limiter.busy_keys()) == [key.id]
    for _ in range(2):
        limiter.settle(key.id, job, 20)

    assert counts(limiter, key) == (0, 0, 0, 20)
    assert list(limiter.busy_keys()) == []


def test_a_line_waits_for_reserved_tokens_and_fails_for_used_ones(limiter: Limiter) -> None:
    key, job = Key(monthly_token_limit=100), new_id()
    charge(limiter, key, tokens=60, job=job)

    lines = [line(key, 41), line(key, 40), line(key, 101)]
    verdicts = charge_lines(limiter, *lines)
    assert verdicts == [ChargeVerdict.RESERVED, ChargeVerdict.CHARGED, ChargeVerdict.USED_UP]
    limiter.settle(key.id, job, 60)

    assert charge_lines(limiter, lines[0]) == [ChargeVerdict.USED_UP]


def test_lines_of_several_keys_are_charged_together_by_an_empty_redis(
    redis_client: redis.Redis, limiter: Limiter
) -> None:
    one, other, lost = Key(), Key(monthly_token_limit=5), new_id()
    redis_client.script_flush()
    asked = []

    def recall(key_id: UUID, _: datetime) -> KeyUse:
        asked.append(key_id)
        return KeyUse(0, bulk={lost: 7} if key_id == one.id else {})

    verdicts = limiter.charge_lines([line(one, 9), line(other, 9), line(one, 1)], recall=recall)

    assert [s.verdict for s in verdicts] == [
        ChargeVerdict.CHARGED,
        ChargeVerdict.USED_UP,
        ChargeVerdict.CHARGED,
    ]
    assert sorted(asked) == sorted([one.id, other.id])
    assert counts(limiter, one) == (0, 0, 0, 17)
    assert lost in limiter.in_flight(one.id)


def test_lines_are_restored_as_lines(limiter: Limiter) -> None:
    key, lost = Key(), new_id()
    charge_lines(limiter, line(key, 5))

    limiter.restore(key.id, {lost: 20}, is_bulk=True)

    assert counts(limiter, key) == (0, 0, 0, 25)
    assert limiter.in_flight(key.id)[lost].tokens == 20


def test_a_key_without_jobs_in_flight_is_not_busy(limiter: Limiter) -> None:
    key, job = Key(), new_id()
    charge(limiter, key, job=job)

    limiter.settle(key.id, job, 1)

    assert list(limiter.busy_keys()) == []


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
