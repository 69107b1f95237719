"""Adds ended lines to the totals of their batch; the last line ends the batch."""

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
#: Concurrent transactions update the row one after the other, so exactly one completes the totals.
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
    """Count lines that have just ended in their batches.

    Call it after the rows of jobs were locked and before those of the roll-up are: everyone locks
    jobs, batches and roll-ups in this order, and each of them in its own.
    """
    sums: dict[UUID, Counter[str]] = {}
    for job in jobs:
        if job.batch_id is not None:
            counts = sums.setdefault(job.batch_id, Counter())
            counts[job.state] += 1
            if job.started_at is not None:  # what never began costs nothing
                counts.update({name: getattr(job, name) for name in TOKEN_COUNTS})
    raise_totals(session, sums)


def raise_totals(session: Session, sums: Mapping[UUID, Mapping[str, int]]) -> None:
    """Add counts of lines by their states, and tokens, to batches; end those that are done.

    The call that completes a batch ends it and adds its webhook.
    """
    connection = session.connection()
    for batch_id in sorted(sums):
        counts = {name: sums[batch_id].get(name, 0) for name in _COUNTS}
        if connection.exec_driver_sql(_RAISE, {"id": str(batch_id), **counts}).scalar():
            _finish(session, batch_id)


def finish_complete_batches(session: Session, batch_ids: Sequence[UUID]) -> None:
    """End those of the batches whose lines have all ended: of some none was ever to run."""
    raise_totals(session, {batch_id: {} for batch_id in batch_ids})


def _finish(session: Session, batch_id: UUID) -> None:
    session.connection().exec_driver_sql(_FINISH, {"id": str(batch_id)})
    batch = session.get_one(Batch, batch_id, populate_existing=True)
    add_batch_delivery(session, batch)
