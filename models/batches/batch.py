"""Batches: many jobs from one file.

    running → completed | cancelling | expiring
    cancelling → cancelled
    expiring → expired

Each line is a job of the bulk queue. The job is held until the dispatcher releases it
(`Job.is_held`). So only a few lines are on the queue at once.

The row of the batch keeps the totals. The transaction that ends a line adds it to the totals, so
reading a batch never counts its lines. The end of the last line ends the batch.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.ids import new_id
from models.accounts.api_key import ApiKey
from models.accounts.user import User
from models.database.base import Base


class BatchState(StrEnum):
    RUNNING = "running"
    CANCELLING = "cancelling"
    EXPIRING = "expiring"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        return not NEXT[self]


#: The next states of each state. The end of the last line chooses the one that is final.
NEXT: dict[BatchState, frozenset[BatchState]] = {
    BatchState.RUNNING: frozenset(
        {BatchState.COMPLETED, BatchState.CANCELLING, BatchState.EXPIRING}
    ),
    BatchState.CANCELLING: frozenset({BatchState.CANCELLED}),
    BatchState.EXPIRING: frozenset({BatchState.EXPIRED}),
    BatchState.COMPLETED: frozenset(),
    BatchState.CANCELLED: frozenset(),
    BatchState.EXPIRED: frozenset(),
}


class OnError(StrEnum):
    """The treatment of a file with invalid lines."""

    REJECT = "reject"
    SKIP = "skip"


class Batch(Base):
    """One file of requests.

    Attributes:
        endpoint: the API of the requests: `/v1/chat/completions`, `/v1/completions`, or `None` for
            the native API.
        total: the number of lines. Each line is one job; a skipped invalid line is a failed job.
        succeeded: the number of lines that succeeded; `failed`, `cancelled` and `expired`
            likewise. The other lines have not ended.
        prompt_tokens: of the ended lines that had started; `completion_tokens` and `cached_tokens`
            likewise.
        input_file_id: the file with the requests, if it was uploaded before.
        retry_of: the batch whose unsuccessful lines this batch retries.
        idempotency_key: the caller's choice; `body_hash` is the SHA-256 of the content.
        request_id: the id of the HTTP request that created the batch, for the logs.
        texts_deleted_at: when retention had deleted the requests and completions of the lines.
        lines_deleted_at: when retention began to delete the lines; it deletes the batch last.
    """

    __tablename__ = "batches"
    __table_args__ = (
        CheckConstraint(
            "state in ('running','cancelling','expiring','completed','cancelled','expired')",
            name="state",
        ),
        CheckConstraint("total > 0", name="total"),
        Index("ix_batches_user_id_id", "user_id", "id"),
        Index("ix_batches_open", "api_key_id", "id", postgresql_where=text("finished_at is null")),
        Index(
            "ix_batches_finished_at",
            "finished_at",
            postgresql_where=text("finished_at is not null"),
        ),
        Index(
            "ix_batches_idempotency_key",
            "api_key_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key is not null"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    # Classes, not names of tables: programs that end jobs update batches and need both mapped.
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    api_key_id: Mapped[UUID] = mapped_column(ForeignKey(ApiKey.id))
    name: Mapped[str | None] = mapped_column(String(200))
    endpoint: Mapped[str | None] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16), default=BatchState.RUNNING)
    model: Mapped[str] = mapped_column(String(200))
    on_error: Mapped[str] = mapped_column(String(8), default="reject")
    total: Mapped[int]
    succeeded: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    cancelled: Mapped[int] = mapped_column(default=0)
    expired: Mapped[int] = mapped_column(default=0)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    completion_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    cached_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    webhook_url: Mapped[str | None] = mapped_column(String(2048))
    # The API's `metadata`, a name that SQLAlchemy reserves.
    labels: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    input_file_id: Mapped[UUID | None]
    retry_of: Mapped[UUID | None]
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    body_hash: Mapped[str | None] = mapped_column(String(64))
    request_id: Mapped[str] = mapped_column(String(128), default="")
    created_at: Mapped[datetime] = mapped_column(default=func.now())
    started_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]
    texts_deleted_at: Mapped[datetime | None]
    lines_deleted_at: Mapped[datetime | None]

    @property
    def is_final(self) -> bool:
        return BatchState(self.state).is_final

    @property
    def ended(self) -> int:
        """The number of lines in any final state."""
        return self.succeeded + self.failed + self.cancelled + self.expired
