"""The retry schedule: growing delays with jitter, and no retry after a day."""

from __future__ import annotations

from datetime import timedelta

import pytest

from models.database.base import utc_now
from models.webhooks.queue import RetryDecision
from models.webhooks.webhook import DeliveryState
from worker.webhooks.client import CallResult
from worker.webhooks.retry_schedule import GIVE_UP_AFTER, RetrySchedule

WITHOUT_JITTER = RetrySchedule(draw=lambda: 0.0)
FAILURE = CallResult(status=500, error="responded with 500")


def judge(
    result: CallResult,
    *,
    attempts: int = 0,
    age: timedelta = timedelta(),
    schedule: RetrySchedule = WITHOUT_JITTER,
) -> RetryDecision:
    now = utc_now()
    return schedule.judge(result, attempts=attempts, began_at=now - age, now=now)


def test_a_failed_message_is_retried_with_growing_delays_for_a_day() -> None:
    age, attempts, delays = timedelta(), 0, []
    while True:
        decision = judge(FAILURE, attempts=attempts, age=age)
        attempts += 1
        if decision.state is DeliveryState.FAILED:
            break
        delays.append(decision.delay.total_seconds())
        age += decision.delay

    assert delays[:9] == [5, 30, 120, 600, 1800, 3600, 10800, 21600, 43200]
    assert age == GIVE_UP_AFTER
    assert attempts == 11


def test_jitter_spreads_simultaneous_failures() -> None:
    delays = {judge(FAILURE, schedule=RetrySchedule()).delay.total_seconds() for _ in range(50)}

    assert len(delays) > 40
    assert all(5 <= delay <= 6 for delay in delays)


def test_a_2xx_response_delivers_a_message_of_any_age() -> None:
    assert judge(CallResult(status=204), age=GIVE_UP_AFTER).state is DeliveryState.DELIVERED


@pytest.mark.parametrize("result", [CallResult(status=410), CallResult(is_refused=True)])
def test_a_gone_or_refused_receiver_is_not_retried(result: CallResult) -> None:
    assert judge(result).state is DeliveryState.FAILED


@pytest.mark.parametrize("status", [301, 400, 404, 429, 500, 503, None])
def test_every_other_failure_is_retried(status: int | None) -> None:
    assert judge(CallResult(status=status)).state is DeliveryState.PENDING


@pytest.mark.parametrize(
    ("retry_after", "delay"), [(0, 5), (2, 5), (60, 60), (10**9, 6 * 3600)], ids=str
)
def test_retry_after_extends_the_delay_within_bounds(retry_after: float, delay: float) -> None:
    decision = judge(CallResult(status=503, retry_after_seconds=retry_after))

    assert decision.delay.total_seconds() == delay


def test_the_last_retry_is_at_the_end_of_the_day() -> None:
    age = GIVE_UP_AFTER - timedelta(minutes=1)

    decision = judge(CallResult(status=503, retry_after_seconds=7200), age=age)

    assert decision == RetryDecision(DeliveryState.PENDING, timedelta(minutes=1))
