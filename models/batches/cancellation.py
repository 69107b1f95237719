"""The cancellation and the expiry of a whole batch.

`models/execution/line_ends.py` ends the lines afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from models.batches.batch import NEXT, Batch, BatchState
from models.database.arrays import is_among


def request_batch_cancel(session: Session, batch_id: UUID) -> Batch | None:
    """Begin to cancel a batch.

    The dispatcher ends the lines, and the last line ends the batch. Returns the batch with its new
    state, even if it was already ending; `None` if it has ended.
    """
    values = {"state": BatchState.CANCELLING, "cancel_requested_at": func.now()}
    session.execute(
        update(Batch)
        .where(Batch.id == batch_id, *_may_become(BatchState.CANCELLING))
        .values(values)
        .execution_options(synchronize_session=False)
    )
    batch = session.get(Batch, batch_id, populate_existing=True)
    return batch if batch is not None and not batch.is_final else None


def begin_expiries(session: Session, batch_ids: Sequence[UUID]) -> list[UUID]:
    """Begin to expire those of the batches that are due; return their ids."""
    due = (
        select(Batch.id)
        .where(Batch.id.in_(batch_ids), Batch.expires_at < func.now())
        .order_by(Batch.id)
        .with_for_update(key_share=True)
    )
    return list(
        session.scalars(
            update(Batch)
            .where(is_among(Batch.id, due), *_may_become(BatchState.EXPIRING))
            .values(state=BatchState.EXPIRING)
            .returning(Batch.id)
            .execution_options(synchronize_session=False)
        )
    )


def _may_become(new: BatchState) -> list[Any]:
    """Return the conditions for a change to `new`."""
    return [Batch.state.in_([old for old, to in NEXT.items() if new in to])]
