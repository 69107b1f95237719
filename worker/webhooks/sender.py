"""Sends the webhooks that are due. Every worker runs a sender; the rows decide who sends what.

At least once: a sender that dies between the receiver's answer and its COMMIT leaves a message that
is sent again, under the same `webhook-id`. With the database away nothing is sent; with a receiver
away only what is meant for it waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.config.settings import Settings
from core.ids import Prefix, show_id
from core.webhooks.signature import WebhookSecret
from models.database.base import DATABASE_AWAY, SessionFactory, database_now
from models.jobs.job import find_job
from models.webhooks.queue import (
    Tried,
    claim_delivery,
    postpone_due,
    record_attempt,
    round_began_at,
)
from models.webhooks.webhook import DeliveryState, WebhookDelivery, webhook_lease
from worker.maintenance.guard import Guard
from worker.webhooks.client import CallResult, WebhookCaller
from worker.webhooks.message import write_message
from worker.webhooks.retry_schedule import RetrySchedule

_log = logging.getLogger(__name__)

#: How late a message is at most when all is well.
POLL_SECONDS = 0.5
#: Attempts under way at once: in this process, for one customer, to one host of a customer.
MAX_ATTEMPTS = 16
MAX_PER_USER = 8
MAX_PER_RECEIVER = 4
JOIN_SECONDS = 5.0
RECORD_RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class _Claim:
    """A delivery that this process may attempt for as long as its lease lasts.

    Times are those of the clock of the database, which receivers share more likely than ours: from
    the claim on they go by this process's seconds.

    Attributes:
        at: when it was claimed.
        since: the same moment, or a little before, by the monotonic clock.
    """

    delivery: WebhookDelivery
    at: datetime
    since: float

    @property
    def now(self) -> datetime:
        return self.at + timedelta(seconds=time.monotonic() - self.since)

    @property
    def is_over(self) -> bool:
        return self.now > self.delivery.next_attempt_at


class WebhookSender:
    def __init__(
        self,
        *,
        sessions: SessionFactory,
        settings: Settings,
        caller: WebhookCaller | None = None,
        schedule: RetrySchedule | None = None,
        tried: Callable[[DeliveryState], None] = lambda state: None,
        failed: Callable[[str], None] = lambda name: None,
    ) -> None:
        """Name the parts.

        Args:
            tried: is told, after each attempt, what became of its message.
            failed: is told "webhooks" after an unexpected error.
        """
        self._sessions = sessions
        self._settings = settings
        self._caller = caller or WebhookCaller(settings)
        self._schedule = schedule or RetrySchedule()
        self._lease = webhook_lease(settings)
        self._tried = tried
        self._guard = Guard("webhooks", failed=failed, lets_pass=DATABASE_AWAY)
        self._failed = failed
        self._under_way: dict[threading.Thread, WebhookDelivery] = {}
        self._ended = 0
        self._changed = threading.Condition()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Begin no attempt more; those under way have a moment, or are made again elsewhere."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in (self._thread, *self._under_way):
            if thread.is_alive():
                thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while not self._is_stopping:
            ended_before, has_begun = self._ended, False
            try:
                if not self._guard.is_resting:
                    with self._guard:
                        has_begun = self._begin_next()
            except DATABASE_AWAY:
                _log.warning("no webhook sent: the database is away")
            if not has_begun:
                with self._changed:
                    # A place that became free while we looked is not to be waited for.
                    if not self._is_stopping and self._ended == ended_before:
                        self._changed.wait(POLL_SECONDS)

    def _begin_next(self) -> bool:
        """Claim a delivery and begin its attempt; False if none is due or no place is free."""
        with self._changed:
            busy = list(self._under_way.values())
        if len(busy) >= MAX_ATTEMPTS:
            return False
        per_user = Counter(delivery.user_id for delivery in busy)
        per_receiver = Counter(delivery.receiver for delivery in busy)
        since = time.monotonic()
        with self._sessions.begin() as session:
            claimed = claim_delivery(
                session,
                lease=self._lease,
                full_users=[user for user, n in per_user.items() if n >= MAX_PER_USER],
                full_receivers=[r for r, n in per_receiver.items() if n >= MAX_PER_RECEIVER],
            )
        if claimed is None:
            return False
        claim = _Claim(claimed, at=claimed.next_attempt_at - self._lease, since=since)
        attempt = threading.Thread(target=self._attempt, args=[claim], daemon=True)
        attempt.name = f"webhook-{claimed.id.hex[-8:]}"
        with self._changed:
            self._under_way[attempt] = claimed
        attempt.start()
        return True

    def _attempt(self, claim: _Claim) -> None:
        try:
            self._send(claim)
        except Exception:
            # The lease runs out and it is tried again; the other attempts go on.
            _log.exception("a webhook could not be sent", extra={"webhook": claim.delivery.id.hex})
            self._failed("webhooks")
        finally:
            with self._changed:
                del self._under_way[threading.current_thread()]
                self._ended += 1
                self._changed.notify_all()

    def _send(self, claim: _Claim) -> None:
        claimed = claim.delivery
        with self._sessions() as session:
            job = find_job(session, claimed.job_id) if claimed.job_id is not None else None
            body = write_message(claimed, job)
        now = claim.now
        secret = WebhookSecret.of_key(self._settings, claimed.api_key_id)
        message_id = show_id(Prefix.WEBHOOK, claimed.id)
        headers = secret.headers(message_id, int(now.timestamp()), body)
        result = self._caller.post(claimed.url, body, headers)
        tried = Tried(now, result.duration_ms, result.status, result.error)
        self._record_in_time(claim, tried, result)

    def _record_in_time(self, claim: _Claim, tried: Tried, result: CallResult) -> None:
        """Record the attempt, again and again while the database is away, until it is too late."""
        while True:
            try:
                self._record(claim.delivery, tried, result)
                return
            except DATABASE_AWAY:
                if self._is_stopping or claim.is_over:
                    raise
            time.sleep(RECORD_RETRY_SECONDS)

    def _record(self, claimed: WebhookDelivery, tried: Tried, result: CallResult) -> None:
        with self._sessions.begin() as session:
            verdict = self._schedule.judge(
                result,
                attempts=claimed.attempts,
                began_at=round_began_at(session, claimed) or tried.at,
                now=database_now(session),
            )
            record_attempt(session, claimed, tried, verdict)
            if result.status is None and not result.is_refused:
                postpone_due(session, claimed.receiver)
        self._tried(verdict.state)
        _log.info(
            "webhook",
            extra={
                "webhook": claimed.id.hex,
                # Of a job or of a batch, as the event says.
                "about": (claimed.job_id or claimed.batch_id or claimed.id).hex,
                "event": claimed.event,
                "state": verdict.state,
                "status": result.status,
                "duration_ms": result.duration_ms,
            },
        )
