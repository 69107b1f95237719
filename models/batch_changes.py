"""Changes of a batch as a whole: it shall end. Its lines follow, see `models/line_ends.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from models.base import is_one_of
from models.batch import NEXT, Batch, BatchState


def ask_to_cancel_batch(session: Session, batch_id: UUID) -> Batch | None:
    """Let a batch end; the feeder ends its lines, and the last of them ends it.

    Returns the batch as it is then, also one that was ending before; `None` if it has ended.
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
    """Let those of the batches end whose time is over; return them."""
    due = (
        select(Batch.id)
        .where(Batch.id.in_(batch_ids), Batch.expires_at < func.now())
        .order_by(Batch.id)
        .with_for_update(key_share=True)
    )
    return list(
        session.scalars(
            update(Batch)
            .where(is_one_of(Batch.id, due), *_may_become(BatchState.EXPIRING))
            .values(state=BatchState.EXPIRING)
            .returning(Batch.id)
            .execution_options(synchronize_session=False)
        )
    )


def _may_become(new: BatchState) -> list[Any]:
    """Return the conditions of a change to `new`."""
    return [Batch.state.in_([old for old, to in NEXT.items() if new in to])]
