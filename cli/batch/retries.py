"""Retry calls while the service is away: with growing pauses, or as `Retry-After` says."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from cli.batch.exit_codes import Away, Unfinished

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
#: Upper bound of a `Retry-After`.
LONGEST_RETRY_AFTER_SECONDS = 600.0

Result = TypeVar("Result")


class Retrying:
    """Retry calls that fail with `Away`, within one time limit for the whole command.

    Pauses double from `FIRST_PAUSE_SECONDS` to `LONGEST_PAUSE_SECONDS`, with jitter.

    Attributes:
        patience_seconds: how long one call is retried; `None` is without limit, for waits for
            a batch.
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
        """Start the time limit of the whole command, if any.

        Args:
            timeout_seconds: limit of all calls and waits from now on.
            say: prints a line.
        """
        self.patience_seconds = patience_seconds
        self._say = say
        self._clock = clock
        self._sleep = sleep
        self._timeout_seconds = timeout_seconds
        self._deadline = None if timeout_seconds is None else clock() + timeout_seconds

    def call(self, attempt: Callable[[], Result]) -> Result:
        """Return the attempt's result; retry while a retry may succeed.

        Raises:
            Away: the last failure, when the patience or the time limit is used up.
        """
        began = self._clock()
        pause = FIRST_PAUSE_SECONDS
        failures = 0
        while True:
            try:
                result = attempt()
            except Away as failure:
                failures += 1
                wait = self._wait_before_next(failure, pause, began)
                if failures == 1:
                    self._say(f"{failure.message}: retrying")
                self._sleep(wait)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                if failures:
                    self._say("the service is back")
                return result

    def pause(self, seconds: float, unfinished: str) -> None:
        """Wait between two polls.

        Args:
            unfinished: the beginning of the error message.

        Raises:
            Unfinished: the time limit has passed.
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
        """Return the rest of the time limit in seconds, or `None` if there is no limit."""
        return None if self._deadline is None else self._deadline - self._clock()
