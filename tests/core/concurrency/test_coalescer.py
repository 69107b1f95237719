from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from core.concurrency.coalescer import Coalescer
from tests.support.polling import wait_until


class Late(Exception):
    pass


class Unanswered(Exception):
    pass


class Stopped(BaseException):
    """Ends a greenlet from outside: not an `Exception`."""


class Groups:
    """Executes calls by doubling numbers. A group with 0 in it waits for the test."""

    def __init__(self) -> None:
        self.made: list[list[int]] = []
        self.may_finish = threading.Event()
        self.fault: BaseException | None = None

    def make(self, calls: Sequence[int]) -> list[int | Exception]:
        self.made.append(list(calls))
        if 0 in calls:
            assert self.may_finish.wait(10)
            if self.fault is not None:
                raise self.fault
        return [ValueError(call) if call < 0 else 2 * call for call in calls]


@pytest.fixture
def groups() -> Groups:
    return Groups()


@pytest.fixture
def start() -> Iterator[Callable[..., Future[int]]]:
    with ThreadPoolExecutor(8) as pool:
        yield pool.submit


def coalescer(groups: Groups, *, most: int = 8, seconds: float = 10) -> Coalescer[int, int]:
    return Coalescer(groups.make, most=most, seconds=seconds, late=Late)


def start_group(
    calls: Coalescer[int, int], groups: Groups, start: Callable[..., Future[int]], *more: int
) -> list[Future[int]]:
    """Start a group that waits for the test, and more calls that wait for the group."""
    futures = [start(calls.call, 0)]
    wait_until(lambda: groups.made == [[0]], 20)
    for count, call in enumerate(more, 1):
        futures.append(start(calls.call, call))
        wait_until(lambda count=count: len(calls._waiting) == count, 20)
    return futures


def test_a_lone_call_does_not_wait(groups: Groups) -> None:
    calls = coalescer(groups)

    assert [calls.call(2), calls.call(3)] == [4, 6]
    assert groups.made == [[2], [3]]


def test_calls_during_a_group_form_the_next_group(
    groups: Groups, start: Callable[..., Future[int]]
) -> None:
    futures = start_group(coalescer(groups), groups, start, 1, 2, 3)
    groups.may_finish.set()

    assert [future.result(5) for future in futures] == [0, 2, 4, 6]
    assert groups.made == [[0], [1, 2, 3]]


def test_a_group_has_at_most_its_bound(groups: Groups, start: Callable[..., Future[int]]) -> None:
    futures = start_group(coalescer(groups, most=2), groups, start, 1, 2, 3)
    groups.may_finish.set()

    assert [future.result(5) for future in futures] == [0, 2, 4, 6]
    assert groups.made == [[0], [1, 2], [3]]


def test_an_error_of_one_call_reaches_its_caller_only(
    groups: Groups, start: Callable[..., Future[int]]
) -> None:
    futures = start_group(coalescer(groups), groups, start, 1, -2, 3)
    groups.may_finish.set()

    with pytest.raises(ValueError, match="-2"):
        futures.pop(2).result(5)
    assert [future.result(5) for future in futures] == [0, 2, 6]


@pytest.mark.parametrize(
    ("fault", "next_error"), [(OSError(), OSError), (Stopped(), Late)], ids=["error", "stopped"]
)
def test_an_error_reaches_all_callers_of_its_group_and_no_other(
    groups: Groups,
    start: Callable[..., Future[int]],
    fault: BaseException,
    next_error: type[BaseException],
) -> None:
    calls = coalescer(groups)
    futures = start_group(calls, groups, start, 0, 5)
    groups.fault = fault
    groups.may_finish.set()

    for future, error in zip(futures, (type(fault), type(fault), next_error), strict=True):
        with pytest.raises(error):
            future.result(5)  # each of the first two led a group
    assert calls.call(4) == 8
    assert groups.made == [[0], [0, 5], [4]]


def test_a_caller_that_waits_too_long_gets_an_error_and_delays_no_other(
    groups: Groups, start: Callable[..., Future[int]]
) -> None:
    calls = coalescer(groups, seconds=0.05)
    first, late = start_group(calls, groups, start, 1)

    with pytest.raises(Late):
        late.result(5)
    groups.may_finish.set()
    assert first.result(5) == 0
    assert calls.call(2) == 4
    assert groups.made == [[0], [2]]


def test_a_caller_whose_group_has_begun_gets_another_error(
    start: Callable[..., Future[int]],
) -> None:
    gates = {0: threading.Event(), 1: threading.Event()}

    def make(group: Sequence[int]) -> list[int | Exception]:
        assert gates[group[0]].wait(10)
        return [2 * call for call in group]

    calls = Coalescer(make, most=8, seconds=1, late=Late, unanswered=Unanswered)
    futures = [start(calls.call, 0)]
    wait_until(lambda: calls._has_leader and not calls._waiting, 20)
    for call in (1, 2):
        futures.append(start(calls.call, call))
        wait_until(lambda call=call: len(calls._waiting) == call, 20)
    gates[0].set()

    with pytest.raises(Unanswered):
        futures[2].result(5)
    gates[1].set()
    assert [future.result(5) for future in futures[:2]] == [0, 2]


_STOPPED_LEADER = """
from gevent import monkey

monkey.patch_all()
import gevent

from core.concurrency.coalescer import Coalescer

calls = Coalescer(lambda group: [2 * call for call in group], most=8, seconds=1, late=TimeoutError)
leader = gevent.spawn(calls.call, 1)
follower = gevent.spawn(calls.call, 2)
gevent.spawn(leader.throw)  # while the leader lets others join
gevent.joinall([leader, follower])
print(type(leader.value).__name__, follower.value, calls.call(3))
"""


def test_a_stopped_leader_leaves_the_lead_to_another_caller() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _STOPPED_LEADER], capture_output=True, text=True, timeout=30
    )

    assert done.stdout.split() == ["GreenletExit", "4", "6"], done.stderr


def test_a_result_at_the_last_moment_is_returned(
    groups: Groups, start: Callable[..., Future[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class LateEvent(threading.Event):
        """One whose wait ends just before it is set."""

        def wait(self, timeout: float | None = None) -> bool:
            super().wait(10)
            return False

    calls = coalescer(groups)
    first = start(calls.call, 0)
    wait_until(lambda: groups.made == [[0]], 10)
    leader = start(calls.call, 1)
    wait_until(lambda: len(calls._waiting) == 1, 10)
    monkeypatch.setattr("core.concurrency.coalescer.threading.Event", LateEvent)
    late = start(calls.call, 2)
    wait_until(lambda: len(calls._waiting) == 2, 10)
    groups.may_finish.set()

    assert [call.result(10) for call in (first, leader, late)] == [0, 2, 4]
