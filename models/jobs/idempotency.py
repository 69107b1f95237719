"""Which job answered a caller's `Idempotency-Key`: a repeated request makes no second one."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.database.base import Base

#: A key may be used for another request after this long.
LIFE = timedelta(hours=24)


class IdempotencyKey(Base):
    """One key of a caller's own choosing.

    Attributes:
        body_hash: SHA-256 of the request, to tell a repetition from another request.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_created_at", "created_at"),)

    api_key_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body_hash: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(default=func.now())


def find_idempotency_key(session: Session, api_key_id: UUID, key: str) -> IdempotencyKey | None:
    """Return what the key was used for in the last `LIFE`."""
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
    """Use the key for a job; False if it is in use. Two at once: the second waits for the first."""
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
    """Let the key be used again: its request was refused after all."""
    session.execute(
        delete(IdempotencyKey).where(
            IdempotencyKey.api_key_id == api_key_id, IdempotencyKey.key == key
        )
    )


def delete_expired_idempotency_keys(session: Session) -> None:
    """Delete the keys that may be used for other requests."""
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at <= func.now() - LIFE))
