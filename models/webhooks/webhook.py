"""Webhooks: messages about the ends of jobs and batches, and their attempts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, func, insert, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.config.settings import Settings
from core.ids import new_id
from models.accounts.api_key import ApiKey
from models.accounts.user import User
from models.batches.batch import Batch
from models.batches.serializer import serialize_batch
from models.database.base import Base
from models.database.pagination import Keyset, read_entities
from models.jobs.job import Job
from models.jobs.serializer import serialize_listed_job

#: The part of a URL that names the receiver; PostgreSQL and Python read the pattern alike.
RECEIVER_PATTERN = "://([^/?#]*)"
MAX_ERROR_LENGTH = 200
#: The longest time to read the message and to record the attempt.
LEASE_GRACE = timedelta(seconds=15)


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Receiver(NamedTuple):
    """One customer's host.

    Two customers with the same host are two receivers, so neither slows down the other.
    """

    user_id: UUID
    host: str


class WebhookDelivery(Base):
    """A message to a customer's URL.

    The service retries it until the receiver takes it or a day is over.

    Attributes:
        job_id: the job that the message is about; or `batch_id`, the batch.
        event: the event, such as `job.succeeded` or `batch.completed`.
        payload: the message's data without the completion. It is written at the end and never
            changes. The sender reads a job's completion from the job's row.
        attempts: the number of attempts since the creation or the last resend.
        next_attempt_at: when a pending delivery is due.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint("state in ('pending','delivered','failed')", name="state"),
        CheckConstraint("(job_id is null) <> (batch_id is null)", name="about"),
        Index("ix_webhook_deliveries_job_id", "job_id"),
        Index("ix_webhook_deliveries_batch_id", "batch_id"),
        Index("ix_webhook_deliveries_user_id_id", "user_id", "id"),
        Index(
            "ix_webhook_deliveries_due",
            "next_attempt_at",
            postgresql_where=text("state = 'pending'"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    # Classes, not names of tables: programs that end jobs insert here and need both mapped.
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    api_key_id: Mapped[UUID] = mapped_column(ForeignKey(ApiKey.id))
    job_id: Mapped[UUID | None]
    batch_id: Mapped[UUID | None]
    url: Mapped[str] = mapped_column(String(2048))
    event: Mapped[str] = mapped_column(String(64))
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)
    state: Mapped[str] = mapped_column(String(16), default=DeliveryState.PENDING)
    attempts: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(default=func.now())
    next_attempt_at: Mapped[datetime] = mapped_column(default=func.now())
    finished_at: Mapped[datetime | None]

    @property
    def receiver(self) -> Receiver:
        found = re.search(RECEIVER_PATTERN, self.url)
        return Receiver(self.user_id, found[1].lower() if found else "")


class WebhookAttempt(Base):
    """One attempt to deliver a message.

    Attributes:
        status: the status of the response; `None` without a response.
        error: why there was no response, or why the response is a failure.
    """

    __tablename__ = "webhook_attempts"
    __table_args__ = (Index("ix_webhook_attempts_delivery_id_id", "delivery_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    delivery_id: Mapped[UUID] = mapped_column(ForeignKey(WebhookDelivery.id, ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(default=func.now())
    status: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(String(MAX_ERROR_LENGTH))
    duration_ms: Mapped[int]


def webhook_lease(settings: Settings) -> timedelta:
    """Return the lease of an attempt, which is longer than an attempt can take."""
    return timedelta(seconds=settings.webhook_timeout_seconds) + LEASE_GRACE


def add_deliveries(session: Session, jobs: Sequence[Job]) -> None:
    """Add the webhooks of jobs that have just ended and whose requests name a URL."""
    rows = [
        {
            "user_id": job.user_id,
            "api_key_id": job.api_key_id,
            "job_id": job.id,
            "url": url,
            "event": f"job.{job.state}",
            "payload": serialize_listed_job(job),
        }
        for job in jobs
        if (url := job.request.get("webhookUrl"))
    ]
    if rows:
        session.execute(insert(WebhookDelivery), rows)


def add_batch_delivery(session: Session, batch: Batch) -> None:
    """Add the webhook of a batch that has just ended, if the batch has a URL."""
    if batch.webhook_url is not None:
        values = {
            "user_id": batch.user_id,
            "api_key_id": batch.api_key_id,
            "batch_id": batch.id,
            "url": batch.webhook_url,
            "event": f"batch.{batch.state}",
            "payload": serialize_batch(batch),
        }
        session.execute(insert(WebhookDelivery), [values])


def find_delivery(session: Session, delivery_id: UUID) -> WebhookDelivery | None:
    return session.get(WebhookDelivery, delivery_id)


def list_deliveries(
    session: Session,
    *,
    user_id: UUID | None = None,
    job_id: UUID | None = None,
    batch_id: UUID | None = None,
    state: DeliveryState | None = None,
    after: UUID | None = None,
    limit: int,
) -> Keyset[WebhookDelivery]:
    """Return deliveries, newest first: those older than the id `after`.

    A filter that is `None` filters nothing.
    """
    query = select(WebhookDelivery)
    for column, value in (
        (WebhookDelivery.user_id, user_id),
        (WebhookDelivery.job_id, job_id),
        (WebhookDelivery.batch_id, batch_id),
        (WebhookDelivery.state, state),
    ):
        if value is not None:
            query = query.where(column == value)
    return read_entities(session, query, WebhookDelivery.id, after=after, limit=limit)


def list_attempts(session: Session, delivery_id: UUID, *, limit: int) -> list[WebhookAttempt]:
    """Return the attempts of a delivery, newest first."""
    return list(
        session.scalars(
            select(WebhookAttempt)
            .where(WebhookAttempt.delivery_id == delivery_id)
            .order_by(WebhookAttempt.id.desc())
            .limit(limit)
        )
    )
