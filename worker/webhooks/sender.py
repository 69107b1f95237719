"""Sends due webhooks.

Every worker runs a sender; a claim in the row decides which one sends.
Delivery is at least once. If a sender dies between the receiver's response and its COMMIT, the
message is sent again with the same `webhook-id`. With the database away nothing is sent; with a
receiver away only its own messages wait.
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
from core.ids import Prefix, format_id
from core.webhooks.signature import WebhookSecret
from models.database.base import DATABASE_AWAY, SessionFactory, database_now
from models.jobs.job import find_job
from models.webhooks.queue import (
    AttemptResult,
    claim_delivery,
    postpone_due,
    record_attempt,
    round_began_at,
)
from models.webhooks.webhook import DeliveryState, WebhookDelivery, webhook_lease
from worker.maintenance.guard import Guard
from worker.webhooks.client import CallResult, WebhookClient
from worker.webhooks.message import encode_message
from worker.webhooks.retry_schedule import RetrySchedule

_log = logging.getLogger(__name__)

#: Longest delay of a due message when no slot is missing.
POLL_SECONDS = 0.5
#: Parallel attempts: of this process, for one customer, to one host of a customer.
MAX_ATTEMPTS = 16
MAX_PER_USER = 8
MAX_PER_RECEIVER = 4
JOIN_SECONDS = 5.0
RECORD_RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class _Claim:
    """A delivery that this process may attempt while its lease lasts.

    Times follow the database's clock, which is more likely than ours to agree with receivers'. The
    monotonic clock of this process measures the time since the claim.

    Attributes:
        claimed_at: moment of the claim, by the database's clock.
        claimed_monotonic: the same moment, or slightly earlier, by `time.monotonic()`.
    """

    delivery: WebhookDelivery
    claimed_at: datetime
    claimed_monotonic: float

    @property
    def now(self) -> datetime:
        return self.claimed_at + timedelta(seconds=time.monotonic() - self.claimed_monotonic)

    @property
    def has_expired(self) -> bool:
        return self.now > self.delivery.next_attempt_at


class WebhookSender:
    def __init__(
        self,
        *,
        sessions: SessionFactory,
        settings: Settings,
        client: WebhookClient | None = None,
        schedule: RetrySchedule | None = None,
        count_attempt: Callable[[DeliveryState], None] = lambda state: None,
        count_failure: Callable[[str], None] = lambda name: None,
    ) -> None:
        """Connect the components.

        Args:
            count_attempt: receives the new state of the message after each attempt.
            count_failure: receives "webhooks" after an unexpected error.
        """
        self._sessions = sessions
        self._settings = settings
        self._client = client or WebhookClient(settings)
        self._schedule = schedule or RetrySchedule()
        self._lease = webhook_lease(settings)
        self._count_attempt = count_attempt
        self._guard = Guard("webhooks", count_failure=count_failure, expected=DATABASE_AWAY)
        self._count_failure = count_failure
        self._in_progress: dict[threading.Thread, WebhookDelivery] = {}
        self._ended = 0
        self._changed = threading.Condition()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Start no more attempts; abandon those that outlast `JOIN_SECONDS`.

        Another worker repeats an abandoned attempt after its lease.
        """
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in (self._thread, *self._in_progress):
            if thread.is_alive():
                thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while not self._is_stopping:
            ended_before, has_started = self._ended, False
            try:
                if not self._guard.is_backing_off:
                    with self._guard:
                        has_started = self._start_next()
            except DATABASE_AWAY:
                _log.warning("no webhooks are sent: the database is away")
            if not has_started:
                with self._changed:
                    # Do not wait if an attempt ended, and freed a slot, during the claim.
                    if not self._is_stopping and self._ended == ended_before:
                        self._changed.wait(POLL_SECONDS)

    def _start_next(self) -> bool:
        """Claim a delivery and start its attempt; False without one or a free slot."""
        with self._changed:
            busy = list(self._in_progress.values())
        if len(busy) >= MAX_ATTEMPTS:
            return False
        per_user = Counter(delivery.user_id for delivery in busy)
        per_receiver = Counter(delivery.receiver for delivery in busy)
        claimed_monotonic = time.monotonic()
        with self._sessions.begin() as session:
            claimed = claim_delivery(
                session,
                lease=self._lease,
                full_users=[user for user, n in per_user.items() if n >= MAX_PER_USER],
                full_receivers=[r for r, n in per_receiver.items() if n >= MAX_PER_RECEIVER],
            )
        if claimed is None:
            return False
        claim = _Claim(
            claimed,
            claimed_at=claimed.next_attempt_at - self._lease,
            claimed_monotonic=claimed_monotonic,
        )
        attempt = threading.Thread(target=self._attempt, args=[claim], daemon=True)
        attempt.name = f"webhook-{claimed.id.hex[-8:]}"
        with self._changed:
            self._in_progress[attempt] = claimed
        attempt.start()
        return True

    def _attempt(self, claim: _Claim) -> None:
        try:
            self._send(claim)
        except Exception:
            # Broad on purpose: other attempts continue. This one is retried after its lease.
            _log.exception("cannot send a webhook", extra={"webhook": claim.delivery.id.hex})
            self._count_failure("webhooks")
        finally:
            with self._changed:
                del self._in_progress[threading.current_thread()]
                self._ended += 1
                self._changed.notify_all()

    def _send(self, claim: _Claim) -> None:
        claimed = claim.delivery
        with self._sessions() as session:
            job = find_job(session, claimed.job_id) if claimed.job_id is not None else None
            body = encode_message(claimed, job)
        now = claim.now
        secret = WebhookSecret.of_key(self._settings, claimed.api_key_id)
        message_id = format_id(Prefix.WEBHOOK, claimed.id)
        headers = secret.headers(message_id, int(now.timestamp()), body)
        result = self._client.post(claimed.url, body, headers)
        tried = AttemptResult(now, result.duration_ms, result.status, result.error)
        self._record_in_time(claim, tried, result)

    def _record_in_time(self, claim: _Claim, tried: AttemptResult, result: CallResult) -> None:
        """Record the attempt; while the database is away, retry until the lease expires."""
        while True:
            try:
                self._record(claim.delivery, tried, result)
                return
            except DATABASE_AWAY:
                if self._is_stopping or claim.has_expired:
                    raise
            time.sleep(RECORD_RETRY_SECONDS)

    def _record(self, claimed: WebhookDelivery, tried: AttemptResult, result: CallResult) -> None:
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
        self._count_attempt(verdict.state)
        _log.info(
            "webhook",
            extra={
                "webhook": claimed.id.hex,
                # The job or the batch, depending on the event.
                "about": (claimed.job_id or claimed.batch_id or claimed.id).hex,
                "event": claimed.event,
                "state": verdict.state,
                "status": result.status,
                "duration_ms": result.duration_ms,
            },
        )
