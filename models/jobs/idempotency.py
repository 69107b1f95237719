"""The jobs of idempotency keys: a repeated request creates no second job."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.database.base import Base

#: A caller may reuse a key for another request after this time.
LIFE = timedelta(hours=24)


class IdempotencyKey(Base):
    """The value of an `Idempotency-Key` header, which the caller chose.

    Attributes:
        body_hash: SHA-256 of the request; it distinguishes a repetition from another request.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_created_at", "created_at"),)

    api_key_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body_hash: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(default=func.now())


def find_idempotency_key(session: Session, api_key_id: UUID, key: str) -> IdempotencyKey | None:
    """Return the use of a key in the last `LIFE`."""
    return session.scalar(
        select(IdempotencyKey).where(
            IdempotencyKey.api_key_id == api_key_id,
            IdempotencyKey.key == key,
            IdempotencyKey.created_at > func.now() - LIFE,
        )
    )


def claim_idempotency_key(
    session: Session, api_key_id: UUID, key: str, *, body_hash: str, job_id: UUID
) -> bool:
    """Use a key for a job; return False if it is in use.

    Of two concurrent calls, the second one waits for the transaction of the first one.
    """
    row = insert(IdempotencyKey).values(
        api_key_id=api_key_id, key=key, body_hash=body_hash, job_id=job_id
    )
    claimed = session.scalar(
        row.on_conflict_do_update(
            index_elements=["api_key_id", "key"],
            set_={"body_hash": body_hash, "job_id": job_id, "created_at": func.now()},
            where=IdempotencyKey.created_at <= func.now() - LIFE,
        ).returning(IdempotencyKey.job_id)
    )
    return claimed is not None


def release_idempotency_key(session: Session, api_key_id: UUID, key: str) -> None:
    """Delete a key whose request was rejected, so that it can be used again."""
    session.execute(
        delete(IdempotencyKey).where(
            IdempotencyKey.api_key_id == api_key_id, IdempotencyKey.key == key
        )
    )


def delete_expired_idempotency_keys(session: Session) -> None:
    """Delete the keys that callers may reuse."""
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at <= func.now() - LIFE))
