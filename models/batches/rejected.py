"""Batches that were rejected because lines of their file are invalid.

OpenAI's clients create a batch first and learn later that its file is invalid. A table of its own
keeps the errors, so that every `Batch` has lines.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, delete, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.ids import new_id
from models.accounts.api_key import ApiKey
from models.accounts.user import User
from models.database.arrays import is_among
from models.database.base import Base, database_now
from models.database.pagination import Keyset, read_entities

#: The most rejected batches of a user; older ones are deleted.
MAX_OF_USER = 100
#: The most rows that one call of `delete_expired_rejections` deletes.
STEP = 100


class RejectedBatch(Base):
    """A rejected request for a `Batch`.

    Attributes:
        errors: `line`, `code`, `message` and `param` for the first invalid lines.
        expires_at: the time after which the row is deleted.
    """

    __tablename__ = "refused_batches"
    __table_args__ = (
        Index("ix_refused_batches_user_id_id", "user_id", "id"),
        Index("ix_refused_batches_expires_at", "expires_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    api_key_id: Mapped[UUID] = mapped_column(ForeignKey(ApiKey.id))
    endpoint: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(200))
    input_file_id: Mapped[UUID]
    labels: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    errors: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(default=func.now())
    expires_at: Mapped[datetime]


def add_rejected_batch(session: Session, batch: RejectedBatch, *, life: timedelta) -> None:
    """Add a rejected batch that expires after `life`, by the clock of the database.

    Deletes the oldest rejected batches of a user with more than `MAX_OF_USER`.
    """
    batch.created_at = database_now(session)
    batch.expires_at = batch.created_at + life
    newest = (
        select(RejectedBatch.id)
        .where(RejectedBatch.user_id == batch.user_id)
        .order_by(RejectedBatch.id.desc())
        .limit(MAX_OF_USER - 1)
    )
    session.execute(
        delete(RejectedBatch).where(
            RejectedBatch.user_id == batch.user_id, RejectedBatch.id.not_in(newest)
        )
    )
    session.add(batch)
    session.flush()


def find_rejected_batch(session: Session, batch_id: UUID) -> RejectedBatch | None:
    return session.get(RejectedBatch, batch_id)


def list_rejected_batches(
    session: Session, user_id: UUID, *, after: UUID | None, limit: int
) -> Keyset[RejectedBatch]:
    """Return a user's rejected batches, newest first, older than the id `after`."""
    query = select(RejectedBatch).where(RejectedBatch.user_id == user_id)
    return read_entities(session, query, RejectedBatch.id, after=after, limit=limit)


def delete_expired_rejections(session: Session) -> None:
    """Delete up to `STEP` rejected batches that have expired."""
    old = (
        select(RejectedBatch.id)
        .where(RejectedBatch.expires_at <= func.now())
        .order_by(RejectedBatch.id)
        .limit(STEP)
        .with_for_update(skip_locked=True)
    )
    session.execute(delete(RejectedBatch).where(is_among(RejectedBatch.id, old)))
