"""Batches that never came to be, because lines of their file cannot be taken.

OpenAI's clients ask for a batch and find out later what is wrong with its file: the object that
tells them is kept here, so that a `Batch` stays one that has lines.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, delete, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.ids import new_id
from models.api_key import ApiKey
from models.base import Base, database_now, is_one_of
from models.user import User

#: Of one user; those before are forgotten.
MOST_KEPT = 100
#: What one step of `forget_old_refusals` deletes.
STEP = 100


class RefusedBatch(Base):
    """A batch that was asked for; see `Batch`.

    Attributes:
        errors: of the first lines: `line`, `code`, `message`, `param`.
        expires_at: when it is forgotten.
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


def keep_refused_batch(session: Session, batch: RefusedBatch, *, life: timedelta) -> None:
    """Add one that is forgotten after `life`, and forget the user's oldest if there are too many.

    Its dates are those of the clock of the database.
    """
    batch.created_at = database_now(session)
    batch.expires_at = batch.created_at + life
    kept = (
        select(RefusedBatch.id)
        .where(RefusedBatch.user_id == batch.user_id)
        .order_by(RefusedBatch.id.desc())
        .limit(MOST_KEPT - 1)
    )
    session.execute(
        delete(RefusedBatch).where(
            RefusedBatch.user_id == batch.user_id, RefusedBatch.id.not_in(kept)
        )
    )
    session.add(batch)
    session.flush()


def find_refused_batch(session: Session, batch_id: UUID) -> RefusedBatch | None:
    return session.get(RefusedBatch, batch_id)


def list_refused_batches(
    session: Session, user_id: UUID, *, after: UUID | None, limit: int
) -> list[RefusedBatch]:
    """Return a user's, newest first, from before the id `after`."""
    query = select(RefusedBatch).where(RefusedBatch.user_id == user_id)
    if after is not None:
        query = query.where(RefusedBatch.id < after)
    return list(session.scalars(query.order_by(RefusedBatch.id.desc()).limit(limit)))


def forget_old_refusals(session: Session) -> None:
    """Delete some that nobody needs any more."""
    old = (
        select(RefusedBatch.id)
        .where(RefusedBatch.expires_at <= func.now())
        .order_by(RefusedBatch.id)
        .limit(STEP)
        .with_for_update(skip_locked=True)
    )
    session.execute(delete(RefusedBatch).where(is_one_of(RefusedBatch.id, old)))
