"""Decides when a webhook is retried: with growing delays, for one day."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from models.webhooks.queue import RetryDecision
from models.webhooks.webhook import DeliveryState
from worker.webhooks.client import CallResult

HOUR = 3600.0
#: The last delay repeats until the day is over.
DELAYS_SECONDS = (5.0, 30.0, 120.0, 600.0, 1800.0, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR)
#: Spreads retries of messages that failed at the same moment.
MAX_JITTER = 0.2
MAX_RETRY_AFTER_SECONDS = 6 * HOUR
GIVE_UP_AFTER = timedelta(days=1)
GONE = 410


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    delays_seconds: Sequence[float] = DELAYS_SECONDS
    draw: Callable[[], float] = random.random

    def judge(
        self, result: CallResult, *, attempts: int, began_at: datetime, now: datetime
    ) -> RetryDecision:
        """Return the message's next state after an attempt.

        Args:
            attempts: number of earlier attempts in this round.
            began_at: start of the round; it ends a day later.
        """
        if result.is_delivered:
            return RetryDecision(DeliveryState.DELIVERED)
        remaining = began_at + GIVE_UP_AFTER - now
        if result.status == GONE or result.is_refused or remaining <= timedelta(0):
            return RetryDecision(DeliveryState.FAILED)
        seconds = self.delays_seconds[min(attempts, len(self.delays_seconds) - 1)]
        seconds *= 1 + MAX_JITTER * self.draw()
        requested = min(result.retry_after_seconds or 0.0, MAX_RETRY_AFTER_SECONDS)
        delay = timedelta(seconds=max(seconds, requested))
        return RetryDecision(DeliveryState.PENDING, min(delay, remaining))
