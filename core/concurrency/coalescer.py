"""Coalesces the concurrent calls of many greenlets or threads into groups.

The first caller becomes the leader and executes a group. Callers that arrive during its execution
form the next group, which one of them leads. A lone caller executes immediately. Uses no background
thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

Call = TypeVar("Call")
Result = TypeVar("Result")


class Coalescer(Generic[Call, Result]):
    """Executes concurrent calls in groups.

    Args:
        execute: executes a group of calls within a bounded time. Returns one result for each call,
            or the error that its caller gets. An error that it raises goes to all callers.
        most: the most calls of one group.
        seconds: how long a caller waits for its group to begin or end.
        late: makes the error of a caller whose group has not begun by then.
        unanswered: makes the error of a caller whose group has begun but not ended by then, or
            whose leader was stopped; `late` by default.
    """

    def __init__(
        self,
        execute: Callable[[Sequence[Call]], Sequence[Result | Exception]],
        *,
        most: int,
        seconds: float,
        late: Callable[[], Exception],
        unanswered: Callable[[], Exception] | None = None,
    ) -> None:
        self._execute = execute
        self._most = most
        self._seconds = seconds
        self._late = late
        self._unanswered = unanswered or late
        self._lock = threading.Lock()
        self._waiting: deque[_Caller] = deque()
        self._has_leader = False

    def call(self, call: Call) -> Result:
        """Return the result of one call, or raise its error."""
        caller = _Caller(call)
        with self._lock:
            if self._has_leader:
                caller.wake = threading.Event()
            else:
                self._has_leader = caller.leads = True
            self._waiting.append(caller)
        if not caller.leads:
            self._wait(caller)
        if caller.leads:
            self._lead()
        if isinstance(caller.result, Exception):
            raise caller.result
        result: Result = caller.result
        return result

    def _wait(self, caller: _Caller) -> None:
        assert caller.wake is not None
        try:
            if not caller.wake.wait(self._seconds):
                if self._withdraw(caller):
                    raise self._late()
                if not caller.wake.is_set():  # its result may have come a moment too late
                    raise self._unanswered()
        except BaseException:  # also if the caller was stopped: the group must keep a leader
            self._withdraw(caller)
            with self._lock:
                if caller.leads:
                    self._pass_lead()
            raise

    def _withdraw(self, caller: _Caller) -> bool:
        """Remove a waiting caller; False if its group has begun."""
        with self._lock:
            if caller not in self._waiting:
                return False
            self._waiting.remove(caller)
            return True

    def _lead(self) -> None:
        """Execute the calls of all waiting callers, including the leader's own."""
        group = self._take_group()
        results: Sequence[Result | Exception] = ()
        try:
            results = self._execute([caller.call for caller in group])
        except Exception as error:  # any error: every caller of the group must get it
            results = [error] * len(group)
        finally:
            # There are no results if a `BaseException` stopped the leader itself.
            results = results or [self._unanswered() for _ in group]
            for caller, result in zip(group, results, strict=True):
                caller.result = result
                if caller.wake is not None:
                    caller.wake.set()
            with self._lock:
                self._pass_lead()

    def _take_group(self) -> list[_Caller]:
        """Take waiting callers out of the queue, the leader first."""
        try:
            time.sleep(0)  # lets other threads join the group
            with self._lock:
                size = min(len(self._waiting), self._most)
                return [self._waiting.popleft() for _ in range(size)]
        except BaseException:  # the leader was stopped: another caller must lead
            with self._lock:
                self._waiting.popleft()
                self._pass_lead()
            raise

    def _pass_lead(self) -> None:
        if self._waiting:
            successor = self._waiting[0]
            successor.leads = True
            assert successor.wake is not None
            successor.wake.set()
        else:
            self._has_leader = False


class _Caller:
    """A caller that waits for its result, or for its turn to lead."""

    __slots__ = ("call", "leads", "result", "wake")

    def __init__(self, call: Any) -> None:
        self.call = call
        self.result: Any = None
        self.leads = False
        self.wake: threading.Event | None = None
