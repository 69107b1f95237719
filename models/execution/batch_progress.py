"""The totals of batches: ended lines add to them, and the last line ends a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from sqlalchemy.orm import Session

from models.batches.batch import Batch, BatchState
from models.jobs.job import FINAL_STATES, TOKEN_COUNTS, Job
from models.webhooks.webhook import add_batch_delivery

#: The final state of a batch by its state at the end of its last line.
_LAST = {
    BatchState.RUNNING: BatchState.COMPLETED,
    BatchState.CANCELLING: BatchState.CANCELLED,
    BatchState.EXPIRING: BatchState.EXPIRED,
}
_COUNTS = (*FINAL_STATES, *TOKEN_COUNTS)
#: Concurrent transactions update the row one by one, so exactly one of them completes the totals.
_RAISE = f"""
    with raised as (
        update batches set
            {", ".join(f"{name} = {name} + %({name})s" for name in _COUNTS)}
        where id = %(id)s
        returning id, finished_at is null
            and succeeded + failed + cancelled + expired = total as is_done
    )
    select is_done from raised
"""
_FINISH = f"""
    update batches set finished_at = greatest(now(), created_at), state = case state
        {" ".join(f"when '{old}' then '{new}'" for old, new in _LAST.items())} end
    where id = %(id)s and finished_at is null
"""


def record_line_ends(session: Session, jobs: Iterable[Job]) -> None:
    """Add lines that have just ended to the totals of their batches.

    Call it after the lock of the rows of jobs and before the lock of the roll-ups. All transactions
    lock jobs, batches and roll-ups in this order, and the rows of each table in its own order.
    """
    sums: dict[UUID, Counter[str]] = {}
    for job in jobs:
        if job.batch_id is not None:
            counts = sums.setdefault(job.batch_id, Counter())
            counts[job.state] += 1
            if job.started_at is not None:  # a line that never began has no usage
                counts.update({name: getattr(job, name) for name in TOKEN_COUNTS})
    raise_totals(session, sums)


def raise_totals(session: Session, sums: Mapping[UUID, Mapping[str, int]]) -> None:
    """Add counts of ended lines and of tokens to batches; end completed batches.

    The call that completes a batch also adds its webhook.

    Args:
        sums: the counts by final state and by column of tokens, for each batch.
    """
    connection = session.connection()
    for batch_id in sorted(sums):
        counts = {name: sums[batch_id].get(name, 0) for name in _COUNTS}
        if connection.exec_driver_sql(_RAISE, {"id": str(batch_id), **counts}).scalar():
            _finish(session, batch_id)


def finish_complete_batches(session: Session, batch_ids: Sequence[UUID]) -> None:
    """End those of the batches whose lines have all ended.

    A batch may have only invalid lines, which no worker ends.
    """
    raise_totals(session, {batch_id: {} for batch_id in batch_ids})


def _finish(session: Session, batch_id: UUID) -> None:
    session.connection().exec_driver_sql(_FINISH, {"id": str(batch_id)})
    batch = session.get_one(Batch, batch_id, populate_existing=True)
    add_batch_delivery(session, batch)
