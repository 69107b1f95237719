"""When a webhook is tried again: ever later, until a day is over."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from models.webhooks.queue import Verdict
from models.webhooks.webhook import DeliveryState
from worker.webhooks.client import CallResult

HOUR = 3600.0
#: The last goes on until the day is over.
DELAYS_SECONDS = (5.0, 30.0, 120.0, 600.0, 1800.0, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR)
#: Failures of a moment must not all come back in one moment.
MOST_JITTER = 0.2
LONGEST_RETRY_AFTER_SECONDS = 6 * HOUR
GIVE_UP_AFTER = timedelta(days=1)
GONE = 410


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    delays_seconds: Sequence[float] = DELAYS_SECONDS
    draw: Callable[[], float] = random.random

    def judge(
        self, result: CallResult, *, attempts: int, began_at: datetime, now: datetime
    ) -> Verdict:
        """Say what follows from an attempt.

        Args:
            attempts: made before this one in its round, which `began_at` this time.
        """
        if result.is_delivered:
            return Verdict(DeliveryState.DELIVERED)
        remaining = began_at + GIVE_UP_AFTER - now
        if result.status == GONE or result.is_refused or remaining <= timedelta(0):
            return Verdict(DeliveryState.FAILED)
        seconds = self.delays_seconds[min(attempts, len(self.delays_seconds) - 1)]
        seconds *= 1 + MOST_JITTER * self.draw()
        wanted = min(result.retry_after_seconds or 0.0, LONGEST_RETRY_AFTER_SECONDS)
        delay = timedelta(seconds=max(seconds, wanted))
        return Verdict(DeliveryState.PENDING, min(delay, remaining))
