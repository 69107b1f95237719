"""Calls of many greenlets or threads made together: while one group is under way, the next gathers.

No thread of its own: whoever comes while nobody makes a group makes the next one, for all that
wait by then. One that comes alone waits for nobody.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

Call = TypeVar("Call")
Answer = TypeVar("Answer")


class Coalescer(Generic[Call, Answer]):
    """Makes calls in groups.

    Args:
        make: makes a group of calls, within a bounded time; returns for each its answer, or the
            error that its caller is to get. What it raises, all of the group get.
        most: calls in one group.
        seconds: what a caller waits at most until its turn; then it gets `late()`.
        unanswered: what it gets instead if its group was begun by then, or whoever made the group
            was stopped; `late` if not given.
    """

    def __init__(
        self,
        make: Callable[[Sequence[Call]], Sequence[Answer | Exception]],
        *,
        most: int,
        seconds: float,
        late: Callable[[], Exception],
        unanswered: Callable[[], Exception] | None = None,
    ) -> None:
        self._make = make
        self._most = most
        self._seconds = seconds
        self._late = late
        self._unanswered = unanswered or late
        self._lock = threading.Lock()
        self._waiting: deque[_Caller] = deque()
        self._is_led = False

    def call(self, call: Call) -> Answer:
        """Return the answer to one call."""
        caller = _Caller(call)
        with self._lock:
            if self._is_led:
                caller.turn = threading.Event()
            else:
                self._is_led = caller.leads = True
            self._waiting.append(caller)
        if not caller.leads:
            self._await_turn(caller)
        if caller.leads:
            self._lead()
        if isinstance(caller.answer, Exception):
            raise caller.answer
        answer: Answer = caller.answer
        return answer

    def _await_turn(self, caller: _Caller) -> None:
        assert caller.turn is not None
        try:
            if not caller.turn.wait(self._seconds):
                if self._withdraw(caller):
                    raise self._late()
                if not caller.turn.is_set():  # its answer may have come a moment too late
                    raise self._unanswered()
        except BaseException:
            self._withdraw(caller)
            with self._lock:
                if caller.leads:
                    self._hand_on()
            raise

    def _withdraw(self, caller: _Caller) -> bool:
        """Let a caller wait no more; False if its group was begun."""
        with self._lock:
            if caller not in self._waiting:
                return False
            self._waiting.remove(caller)
            return True

    def _lead(self) -> None:
        """Make the calls of all that wait, the leader's own among them."""
        group = self._gather()
        answers: Sequence[Answer | Exception] = ()
        try:
            answers = self._make([caller.call for caller in group])
        except Exception as error:
            answers = [error] * len(group)
        finally:
            # Without answers the leader itself was stopped, by what is no `Exception`.
            answers = answers or [self._unanswered() for _ in group]
            for caller, answer in zip(group, answers, strict=True):
                caller.answer = answer
                if caller.turn is not None:
                    caller.turn.set()
            with self._lock:
                self._hand_on()

    def _gather(self) -> list[_Caller]:
        """Take those who wait, the leader first."""
        try:
            time.sleep(0)  # whoever is about to call joins in
            with self._lock:
                size = min(len(self._waiting), self._most)
                return [self._waiting.popleft() for _ in range(size)]
        except BaseException:  # the leader was stopped: another must lead
            with self._lock:
                self._waiting.popleft()
                self._hand_on()
            raise

    def _hand_on(self) -> None:
        if self._waiting:
            following = self._waiting[0]
            following.leads = True
            assert following.turn is not None
            following.turn.set()
        else:
            self._is_led = False


class _Caller:
    """One that waits: for its answer, or for its turn to lead."""

    __slots__ = ("answer", "call", "leads", "turn")

    def __init__(self, call: Any) -> None:
        self.call = call
        self.answer: Any = None
        self.leads = False
        self.turn: threading.Event | None = None
