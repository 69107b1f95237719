"""The queue of webhooks: claims, and the results of attempts.

A worker claims a due delivery: it moves `next_attempt_at` to the end of a lease. No other worker
sends the delivery before that. If its sender dies, it is then due again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, case, func, insert, select, tuple_, update
from sqlalchemy.orm import Session

from models.database.arrays import is_among
from models.webhooks.webhook import (
    MAX_ERROR_LENGTH,
    RECEIVER_PATTERN,
    DeliveryState,
    Receiver,
    WebhookAttempt,
    WebhookDelivery,
)

#: The most deliveries that one statement postpones while their receiver is away.
POSTPONE_LIMIT = 500
#: The shortest and the longest delay.
POSTPONE_SECONDS = (5, 3600)


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The result of an attempt, as `WebhookAttempt` stores it."""

    at: datetime
    duration_ms: int
    status: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """The decision after an attempt: a pending delivery is retried after `delay`."""

    state: DeliveryState
    delay: timedelta = timedelta()


def claim_delivery(
    session: Session,
    *,
    lease: timedelta,
    full_users: Collection[UUID] = (),
    full_receivers: Collection[Receiver] = (),
) -> WebhookDelivery | None:
    """Claim the delivery that has been due for the longest time.

    No other worker gets it before the lease ends.

    Args:
        full_users: users with as many running attempts as they may have; `full_receivers` likewise.
    """
    due = (
        select(WebhookDelivery.id)
        .where(
            *_due(),
            WebhookDelivery.user_id.not_in(full_users),
            tuple_(WebhookDelivery.user_id, _receiver_host()).not_in(full_receivers),
        )
        .order_by(WebhookDelivery.next_attempt_at, WebhookDelivery.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    return session.scalar(
        update(WebhookDelivery)
        .where(WebhookDelivery.id == due)
        .values(next_attempt_at=func.now() + lease)
        .returning(WebhookDelivery)
        .execution_options(populate_existing=True)
    )


def record_attempt(
    session: Session, claimed: WebhookDelivery, tried: AttemptResult, verdict: RetryDecision
) -> None:
    """Record an attempt and the state of the delivery after it.

    A sender whose lease is over does not change the state, unless the receiver took the message.
    """
    error = tried.error[:MAX_ERROR_LENGTH] if tried.error else None
    session.execute(
        insert(WebhookAttempt).values(
            delivery_id=claimed.id,
            at=tried.at,
            status=tried.status,
            error=error,
            duration_ms=tried.duration_ms,
        )
    )
    where = [
        WebhookDelivery.id == claimed.id,
        WebhookDelivery.state == DeliveryState.PENDING,
    ]
    if verdict.state is not DeliveryState.DELIVERED:
        where.append(WebhookDelivery.next_attempt_at == claimed.next_attempt_at)
    is_over = verdict.state is not DeliveryState.PENDING
    session.execute(
        update(WebhookDelivery)
        .where(*where)
        .values(
            state=verdict.state,
            attempts=WebhookDelivery.attempts + 1,
            next_attempt_at=func.now() + verdict.delay,
            finished_at=func.now() if is_over else None,
        )
        .execution_options(synchronize_session=False)
    )


def round_began_at(session: Session, claimed: WebhookDelivery) -> datetime | None:
    """Return the time of the first attempt of this round; `None` without attempts."""
    if not claimed.attempts:
        return None
    return session.scalar(
        select(WebhookAttempt.at)
        .where(WebhookAttempt.delivery_id == claimed.id)
        .order_by(WebhookAttempt.id.desc())
        .offset(claimed.attempts - 1)
        .limit(1)
    )


def postpone_due(session: Session, receiver: Receiver) -> None:
    """Postpone due webhooks of a receiver that is away, so that they occupy no slot.

    The delay grows with the age of the message, from seconds to about an hour.
    """
    age = func.extract("epoch", func.now() - WebhookDelivery.created_at)
    seconds = func.greatest(POSTPONE_SECONDS[0], func.least(age / 4, POSTPONE_SECONDS[1]))
    delay = func.make_interval(0, 0, 0, 0, 0, 0, seconds * (1 + func.random() / 5))
    due = (
        select(WebhookDelivery.id)
        .where(
            *_due(),
            WebhookDelivery.user_id == receiver.user_id,
            _receiver_host() == receiver.host,
        )
        .limit(POSTPONE_LIMIT)
        .with_for_update(skip_locked=True)
    )
    session.execute(
        update(WebhookDelivery)
        .where(is_among(WebhookDelivery.id, due))
        .values(next_attempt_at=func.now() + delay)
        .execution_options(synchronize_session=False)
    )


def resend_delivery(
    session: Session, delivery_id: UUID, *, lease: timedelta
) -> WebhookDelivery | None:
    """Begin a new round of attempts now.

    A delivery whose attempt may be running keeps its time, so that it is not sent twice.
    """
    next_attempt_at = WebhookDelivery.next_attempt_at
    is_waiting = WebhookDelivery.state == DeliveryState.PENDING
    may_be_under_way = is_waiting & (next_attempt_at <= func.now() + lease)
    return session.scalar(
        update(WebhookDelivery)
        .where(WebhookDelivery.id == delivery_id)
        .values(
            state=DeliveryState.PENDING,
            attempts=0,
            finished_at=None,
            next_attempt_at=case((may_be_under_way, next_attempt_at), else_=func.now()),
        )
        .returning(WebhookDelivery)
        .execution_options(populate_existing=True)
    )


def _due() -> Sequence[ColumnElement[bool]]:
    return (
        WebhookDelivery.state == DeliveryState.PENDING,
        WebhookDelivery.next_attempt_at <= func.now(),
    )


def _receiver_host() -> ColumnElement[str]:
    return func.lower(func.substring(WebhookDelivery.url, RECEIVER_PATTERN))
