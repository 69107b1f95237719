"""The reconciler settles unsettled jobs and restores lost charges, each of them once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from core.ids import new_id
from core.limits.limiter import Limiter
from models.accounts.api_key import ApiKey
from models.database.base import SessionFactory, utc_now
from models.execution.completion import record_end
from models.jobs.job import JobState
from models.jobs.outcome import JobOutcome
from models.jobs.transitions import finish_job
from models.usage.limits import read_key_use
from tests.support.factories.rows import add_job, add_key, claim_job
from worker.maintenance.limit_reconciler import LimitReconciler

CHARGED = 100


@pytest.fixture
def limiter(redis_client: redis.Redis) -> Limiter:
    return Limiter(redis_client)


@pytest.fixture
def reconcile(database: SessionFactory, redis_client: redis.Redis) -> Callable[[], None]:
    """A pass that runs even within the interval of the last one."""

    def reconcile() -> None:
        redis_client.delete("limit:settling")
        LimitReconciler(sessions=database, client=redis_client).reconcile()

    return reconcile


def add_charged_job(
    database: SessionFactory, limiter: Limiter, key: ApiKey, *, age: timedelta = timedelta()
) -> UUID:
    """Add a job that is charged to its key."""
    with database.begin() as session:
        created_at = utc_now() - age
        job_id = add_job(session, key, charged_tokens=CHARGED, created_at=created_at).id
    charge(database, limiter, key, job_id)
    return job_id


def charge(database: SessionFactory, limiter: Limiter, key: ApiKey, job_id: UUID) -> None:
    with database() as session:
        limiter.charge(
            key,
            job_id,
            tokens=CHARGED,
            recall=lambda month: read_key_use(session, key.id, month),
        )


def end(database: SessionFactory, job_id: UUID, *, tokens: int) -> None:
    """End a job whose worker dies before it settles the charge."""
    with database.begin() as session:
        claim_job(session, job_id, worker_id="w", lease=timedelta(seconds=10))
        outcome = JobOutcome(JobState.SUCCEEDED, completion_tokens=tokens)
        ended = finish_job(session, job_id, attempt=1, outcome=outcome)
        assert ended is not None
        record_end(session, ended)


def use_of(database: SessionFactory, limiter: Limiter, key: ApiKey) -> tuple[int, int]:
    """Return the key's jobs in flight and its tokens of the month."""
    with database() as session:
        state = limiter.read(key, recall=lambda month: read_key_use(session, key.id, month))
    return state.in_flight.used, state.month.used


def test_an_unsettled_job_is_settled_with_its_used_tokens(
    database: SessionFactory, limiter: Limiter, key: ApiKey, reconcile: Callable[[], None]
) -> None:
    ended, running = (add_charged_job(database, limiter, key) for _ in range(2))
    end(database, ended, tokens=7)

    reconcile()
    reconcile()

    assert use_of(database, limiter, key) == (1, 7 + CHARGED)
    assert list(limiter.in_flight(key.id)) == [running]


def test_a_key_that_cannot_be_read_blocks_no_other(
    database: SessionFactory,
    redis_client: redis.Redis,
    limiter: Limiter,
    key: ApiKey,
) -> None:
    failures: list[str] = []
    with database.begin() as session:
        other = add_key(session)
    for owner in (key, other):
        end(database, add_charged_job(database, limiter, owner), tokens=7)
        add_charged_job(database, limiter, owner)
    redis_client.hset(f"limit:{other.id.hex}:flight", "no id", "no charge")

    LimitReconciler(
        sessions=database, client=redis_client, count_failure=failures.append
    ).reconcile()

    assert failures == ["limits"]
    assert use_of(database, limiter, key) == (1, 7 + CHARGED)


def test_a_charge_that_redis_lost_is_restored_and_counts_once(
    database: SessionFactory,
    redis_client: redis.Redis,
    limiter: Limiter,
    key: ApiKey,
    reconcile: Callable[[], None],
) -> None:
    add_charged_job(database, limiter, key)
    lost = add_charged_job(database, limiter, key, age=timedelta(hours=1))
    limiter.settle(key.id, lost, 0)

    reconcile()
    assert use_of(database, limiter, key) == (2, 2 * CHARGED)
    end(database, lost, tokens=7)
    reconcile()

    assert use_of(database, limiter, key) == (1, CHARGED + 7)


def test_a_lost_charge_of_a_batch_line_is_restored_after_the_grace_period(
    database: SessionFactory, limiter: Limiter, key: ApiKey, reconcile: Callable[[], None]
) -> None:
    now = utc_now()
    with database.begin() as session:
        line = {"created_at": now - timedelta(hours=1), "charged_tokens": CHARGED, "queue": "bulk"}
        old = add_job(session, key, released_at=now - timedelta(minutes=9), **line).id
        add_job(session, key, released_at=now, **line)
        add_job(session, key, is_held=True, **{**line, "charged_tokens": 0})
    add_charged_job(database, limiter, key)
    for job_id in set(limiter.in_flight(key.id)):
        limiter.settle(key.id, job_id, 0)

    reconcile()

    assert list(limiter.in_flight(key.id)) == [old]
    assert use_of(database, limiter, key) == (0, CHARGED)


def test_a_new_job_without_a_charge_is_not_charged(
    database: SessionFactory, limiter: Limiter, key: ApiKey, reconcile: Callable[[], None]
) -> None:
    """Within the grace period, rows and charges may differ."""
    job = add_charged_job(database, limiter, key)
    limiter.settle(key.id, job, 0)

    reconcile()

    assert limiter.in_flight(key.id) == {}


def test_an_old_charge_without_a_job_is_returned(
    database: SessionFactory, redis_client: redis.Redis, key: ApiKey, reconcile: Callable[[], None]
) -> None:
    now = utc_now().timestamp()
    for age in (0, 600):
        charge(database, Limiter(redis_client, clock=lambda age=age: now - age), key, new_id())  # type: ignore[misc]

    reconcile()

    assert use_of(database, Limiter(redis_client), key) == (1, CHARGED)


def test_one_worker_makes_the_pass_of_an_interval(
    database: SessionFactory, redis_client: redis.Redis, limiter: Limiter, key: ApiKey
) -> None:
    first, second = (LimitReconciler(sessions=database, client=redis_client) for _ in range(2))
    first.reconcile()
    end(database, add_charged_job(database, limiter, key), tokens=7)

    second.reconcile()

    assert len(limiter.in_flight(key.id)) == 1


def test_with_redis_away_a_pass_does_nothing(database: SessionFactory) -> None:
    away = redis.Redis(host="127.0.0.1", port=1, retry=Retry(NoBackoff(), 0))

    LimitReconciler(sessions=database, client=away).reconcile()
