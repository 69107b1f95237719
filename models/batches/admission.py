"""Whether a batch may come to be: how many its key has open, and what a caller's own name for the
request stands for.

Both are decided by `admit_batch` in the last moments of the transaction that makes the batch, under
a lock of its key: exact, and nobody waits for another's lines to be written.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from models.batches.batch import Batch
from models.database.locks import RowLock, lock_row
from models.jobs.idempotency import LIFE


@dataclass(frozen=True, slots=True)
class BatchRejection:
    """Why a batch may not come to be.

    Attributes:
        repeated: the batch that has the idempotency key; `None` if too many are open.
    """

    repeated: Batch | None = None


def count_open(session: Session, api_key_id: UUID) -> int:
    """Return how many batches of a key have not ended."""
    is_open = (Batch.api_key_id == api_key_id, Batch.finished_at.is_(None))
    return session.scalar(select(func.count()).select_from(Batch).where(*is_open)) or 0


def find_repeated_batch(session: Session, api_key_id: UUID, idempotency_key: str) -> Batch | None:
    """Return the batch that an idempotency key made in the last `LIFE`."""
    return session.scalar(
        select(Batch)
        .where(Batch.api_key_id == api_key_id, Batch.idempotency_key == idempotency_key)
        .where(Batch.created_at > func.now() - LIFE)
    )


def admit_batch(
    session: Session, batch: Batch, *, most: int, idempotency_key: str | None
) -> BatchRejection | None:
    """Let a batch that this transaction has made come to be, or say why it may not.

    Commit at once what it allows, roll back what it does not: the key is locked meanwhile.
    """
    lock_row(session, RowLock.BATCHES_OF_KEY, batch.api_key_id)
    if idempotency_key is not None:
        repeated = find_repeated_batch(session, batch.api_key_id, idempotency_key)
        if repeated is not None:
            return BatchRejection(repeated)
    if count_open(session, batch.api_key_id) > most:  # this one is among them
        return BatchRejection()
    if idempotency_key is not None:
        _forget_old(session, batch.api_key_id, idempotency_key)
        batch.idempotency_key = idempotency_key
        session.flush()
    return None


def _forget_old(session: Session, api_key_id: UUID, idempotency_key: str) -> None:
    session.execute(
        update(Batch)
        .where(Batch.api_key_id == api_key_id, Batch.idempotency_key == idempotency_key)
        .where(Batch.created_at <= func.now() - LIFE)
        .values(idempotency_key=None)
    )
