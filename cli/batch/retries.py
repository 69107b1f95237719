"""Asking again while the service is away: with growing pauses, and when it says so."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from cli.batch.exit_codes import Away, Unfinished

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
#: No answer may hold us longer, whatever it says.
LONGEST_RETRY_AFTER_SECONDS = 600.0

Answer = TypeVar("Answer")


class Retrying:
    """Repeats a call that fails with `Away`.

    Attributes:
        patience_seconds: how long one call may fail; `None` while a batch is waited for.
    """

    def __init__(
        self,
        *,
        patience_seconds: float | None,
        timeout_seconds: float | None = None,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take `timeout_seconds` for all that is done from now on, waiting included."""
        self.patience_seconds = patience_seconds
        self._say = say
        self._clock = clock
        self._sleep = sleep
        self._timeout_seconds = timeout_seconds
        self._deadline = None if timeout_seconds is None else clock() + timeout_seconds

    def call(self, attempt: Callable[[], Answer]) -> Answer:
        """Return what the attempt returns, asking again as long as that may help.

        Raises:
            Away: the last one, when patience or time is at its end.
        """
        began = self._clock()
        pause = FIRST_PAUSE_SECONDS
        failures = 0
        while True:
            try:
                answer = attempt()
            except Away as failure:
                failures += 1
                wait = self._wait_before_next(failure, pause, began)
                if failures == 1:
                    self._say(f"{failure.message}: trying again")
                self._sleep(wait)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                if failures:
                    self._say("the service is back")
                return answer

    def pause(self, seconds: float, unfinished: str) -> None:
        """Wait between two looks.

        Raises:
            Unfinished: the time given for everything is over.
        """
        left = self.time_left()
        if left is not None and left <= 0:
            raise Unfinished(f"{unfinished} after the {self._timeout_seconds:g} s of --timeout")
        self._sleep(seconds if left is None else min(seconds, left))

    def _wait_before_next(self, failure: Away, pause: float, began: float) -> float:
        if not failure.may_pass:
            raise failure
        wait = pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        if failure.retry_after_seconds is not None:
            wait = min(max(wait, failure.retry_after_seconds), LONGEST_RETRY_AFTER_SECONDS)
        ends = [self.time_left()]
        if self.patience_seconds is not None:
            ends.append(began + self.patience_seconds - self._clock())
        if any(left is not None and wait > left for left in ends):
            raise failure
        return wait

    def time_left(self) -> float | None:
        """Return how much is left of the time given for everything, if some was given."""
        return None if self._deadline is None else self._deadline - self._clock()
