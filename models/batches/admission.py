"""The admission of batches: a key's limit of open batches, and idempotency keys.

`admit_batch` checks both at the end of the transaction that creates the batch. It takes a lock of
the API key, so the limit is exact. No upload waits while another one writes its lines.
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
    """The reason for rejecting a batch.

    Attributes:
        repeated: the batch that has the idempotency key; `None` if too many batches are open.
    """

    repeated: Batch | None = None


def count_open(session: Session, api_key_id: UUID) -> int:
    """Return the number of open batches of a key."""
    is_open = (Batch.api_key_id == api_key_id, Batch.finished_at.is_(None))
    return session.scalar(select(func.count()).select_from(Batch).where(*is_open)) or 0


def find_repeated_batch(session: Session, api_key_id: UUID, idempotency_key: str) -> Batch | None:
    """Return the batch that an idempotency key created in the last `LIFE`."""
    return session.scalar(
        select(Batch)
        .where(Batch.api_key_id == api_key_id, Batch.idempotency_key == idempotency_key)
        .where(Batch.created_at > func.now() - LIFE)
    )


def admit_batch(
    session: Session, batch: Batch, *, most: int, idempotency_key: str | None
) -> BatchRejection | None:
    """Admit a batch inserted in this transaction, or return why it is rejected.

    The transaction then holds an advisory lock on the API key: commit or roll back immediately.
    """
    lock_row(session, RowLock.BATCHES_OF_KEY, batch.api_key_id)
    if idempotency_key is not None:
        repeated = find_repeated_batch(session, batch.api_key_id, idempotency_key)
        if repeated is not None:
            return BatchRejection(repeated)
    if count_open(session, batch.api_key_id) > most:  # the count includes this batch
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
