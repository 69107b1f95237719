"""The retries of requests to a service that is away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cli.batch.exit_codes import Away, Refused, Unfinished
from cli.batch.retries import LONGEST_PAUSE_SECONDS, LONGEST_RETRY_AFTER_SECONDS, Retrying


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def retrying(time: Time, messages: list[str] | None = None, **options: Any) -> Retrying:
    say = messages.append if messages is not None else lambda text: None
    given = {"patience_seconds": None, **options}
    return Retrying(say=say, clock=lambda: time.now, sleep=time.sleep, **given)


def fails(times: int, failure: Exception) -> Callable[[], str]:
    left = [failure] * times

    def attempt() -> str:
        if left:
            raise left.pop()
        return "response"

    return attempt


def test_it_retries_with_growing_pauses_and_prints_that_once() -> None:
    time, messages = Time(), list[str]()

    response = retrying(time, messages).call(fails(12, Away("away")))

    assert response == "response"
    for retry, pause in enumerate(time.slept):
        longest = min(0.5 * 2**retry, LONGEST_PAUSE_SECONDS)
        assert longest / 2 <= pause <= longest
    assert messages == ["away: retrying", "the service is back"]


def test_it_waits_for_retry_after_up_to_a_bound() -> None:
    time = Time()

    retrying(time).call(fails(1, Away("away", retry_after_seconds=7)))
    retrying(time).call(fails(1, Away("away", retry_after_seconds=10**9)))

    assert time.slept == [7, LONGEST_RETRY_AFTER_SECONDS]


def test_retries_end_with_the_patience() -> None:
    time = Time()

    with pytest.raises(Away):
        retrying(time, patience_seconds=60).call(fails(10**6, Away("away")))

    assert 25 <= time.now <= 60


def test_it_does_not_sleep_past_the_time_out() -> None:
    time = Time()

    with pytest.raises(Away):
        retrying(time, timeout_seconds=5).call(fails(1, Away("away", retry_after_seconds=6)))

    assert time.slept == []


def test_a_pause_between_polls_ends_at_the_time_out() -> None:
    time = Time()
    waiting = retrying(time, timeout_seconds=5)

    waiting.pause(4, "still running")
    waiting.pause(4, "still running")
    with pytest.raises(Unfinished, match="still running after the 5 s"):
        waiting.pause(4, "still running")

    assert time.slept == [4, 1]


@pytest.mark.parametrize("failure", [Refused("no"), Away("bad certificate", may_pass=False)])
def test_permanent_failures_are_not_retried(failure: Exception) -> None:
    time = Time()

    with pytest.raises(type(failure)):
        retrying(time).call(fails(1, failure))

    assert time.slept == []
