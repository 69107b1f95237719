"""Which job answered a caller's `Idempotency-Key`: a repeated request makes no second one."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, utc_now


class IdempotencyKey(Base):
    """One key of a caller's own choosing, good for a day.

    Attributes:
        body_hash: SHA-256 of the request, to tell a repetition from another request.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_created_at", "created_at"),)

    api_key_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body_hash: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
