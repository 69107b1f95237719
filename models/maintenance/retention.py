"""The deletion of old texts, jobs, batches, webhooks and audit entries, in steps.

Usage and its roll-ups are never deleted.

Each function is one step: a short transaction on a few rows that an index finds. It returns the
number of changed rows, or its position in the batch. It changes nothing that waits, runs or is
open.
`worker/maintenance/retention.py` calls the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, SmallInteger, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.ids import earliest_id
from models.accounts.audit import AuditEntry
from models.batches.batch import Batch
from models.database.arrays import is_among
from models.database.base import Base
from models.database.locks import ServiceLock, try_lock
from models.webhooks.webhook import DeliveryState, WebhookDelivery

#: Rows per step: few, so that no request waits long for their locks.
STEP = 500
#: The fields of a request that contain the customer's texts.
_TEXTS = "'{prompt,messages,stop}'::text[]"


class RetentionMark(Base):
    """The progress of retention: one row.

    Attributes:
        texts_until: all jobs without a batch that ended before this time have lost their texts.
        jobs_until: retention deleted only jobs that ended before this time.
    """

    __tablename__ = "retention_mark"
    __table_args__ = (CheckConstraint("id = 1", name="one"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    texts_until: Mapped[datetime | None]
    jobs_until: Mapped[datetime | None]


def try_retention_lock(session: Session) -> bool:
    """Take the lock of retention until the transaction ends.

    Returns False if another transaction holds it. Without the lock, two workers would do the same
    work.
    """
    return try_lock(session, ServiceLock.RETENTION)


def delete_texts(session: Session, before: datetime) -> int:
    """Delete requests and completions of some jobs that ended before a time.

    Stores its progress, so that no step reads finished rows again.
    """
    since = session.scalar(select(RetentionMark.texts_until))
    if since is not None and since >= before:
        return 0
    values = {"since": since, "before": before, "step": STEP}
    count = len(session.execute(_DELETE_TEXTS, values).all())
    # The step skipped locked rows: the mark must not pass them.
    remaining = session.scalar(_FIRST_TEXTS, values)
    _mark(session, texts_until=before if remaining is None else remaining)
    return count


def batch_with_texts(session: Session, before: datetime) -> UUID | None:
    """Return a batch that ended before a time and still has its texts."""
    return session.scalar(
        select(Batch.id)
        .where(Batch.finished_at < before, Batch.texts_deleted_at.is_(None))
        .order_by(Batch.finished_at)
        .limit(1)
    )


def delete_texts_of_lines(session: Session, batch_id: UUID, *, after: int) -> int | None:
    """Delete requests and completions of the next lines after the line `after`.

    Returns the last of them. Without further lines, marks the batch and returns `None`.
    """
    values = {"batch_id": batch_id, "after": after, "step": STEP}
    lines: Sequence[int] = session.scalars(_DELETE_TEXTS_OF_LINES, values).all()
    if lines:
        return max(lines)
    session.execute(update(Batch).where(Batch.id == batch_id).values(texts_deleted_at=func.now()))
    return None


def delete_jobs(session: Session, before: datetime) -> int:
    """Delete some jobs that ended before a time and are not batch lines."""
    _mark(session, jobs_until=before)
    rows = session.execute(_DELETE_JOBS, {"before": before, "step": STEP})
    return int(getattr(rows, "rowcount", 0))


def begin_batch_deletion(session: Session, before: datetime) -> UUID | None:
    """Choose a batch that ended before a time, and mark it as being deleted."""
    batch_id = session.scalar(
        select(Batch.id).where(Batch.finished_at < before).order_by(Batch.finished_at).limit(1)
    )
    if batch_id is not None:
        _mark(session, jobs_until=before)
        session.execute(
            update(Batch)
            .where(Batch.id == batch_id, Batch.lines_deleted_at.is_(None))
            .values(lines_deleted_at=func.now())
        )
    return batch_id


def delete_lines(session: Session, batch_id: UUID, *, after: int) -> int | None:
    """Delete the next lines of a batch and return the last.

    Without further lines, deletes the batch and returns `None`.
    """
    values = {"batch_id": batch_id, "after": after, "step": STEP}
    lines: Sequence[int] = session.scalars(_DELETE_LINES, values).all()
    if lines:
        return max(lines)
    session.execute(delete(Batch).where(Batch.id == batch_id))
    return None


def delete_webhooks(session: Session, before: datetime) -> int:
    """Delete some old webhooks that are not pending, with their attempts."""
    old = (
        select(WebhookDelivery.id)
        .where(
            WebhookDelivery.id < earliest_id(before),
            # The id contains the time of the machine that created it, whose clock may be slow.
            WebhookDelivery.created_at < before,
            WebhookDelivery.state != DeliveryState.PENDING,
        )
        .order_by(WebhookDelivery.id)
        .limit(STEP)
        .with_for_update(skip_locked=True)
    )
    rows = session.execute(delete(WebhookDelivery).where(is_among(WebhookDelivery.id, old)))
    return int(getattr(rows, "rowcount", 0))


def delete_audit(session: Session, before: datetime) -> int:
    """Delete some entries of the audit trail from before a time."""
    old = (
        select(AuditEntry.id)
        .where(AuditEntry.id < earliest_id(before), AuditEntry.at < before)
        .order_by(AuditEntry.id)
        .limit(STEP)
        .with_for_update(skip_locked=True)
    )
    rows = session.execute(delete(AuditEntry).where(is_among(AuditEntry.id, old)))
    return int(getattr(rows, "rowcount", 0))


def _mark(session: Session, **until: datetime) -> None:
    """Advance the mark, which never goes back."""
    raised = {
        name: func.greatest(getattr(RetentionMark, name), moment) for name, moment in until.items()
    }
    session.execute(
        insert(RetentionMark)
        .values(id=1, **until)
        .on_conflict_do_update(index_elements=["id"], set_=raised)
    )


_WITH_TEXTS = """
    from jobs
    where batch_id is null and finished_at is not null and texts_deleted_at is null
        and finished_at >= coalesce(cast(:since as timestamptz), '-infinity')
        and finished_at < :before
    order by finished_at
"""
# Arrays instead of `in`: see `is_among`.
_DELETE_TEXTS = text(
    f"""
    update jobs set request = request - {_TEXTS}, choices = null, texts_deleted_at = now()
    where id = any(array(select id {_WITH_TEXTS} limit :step for update skip locked))
    returning id
    """
)
_FIRST_TEXTS = text(f"select finished_at {_WITH_TEXTS} limit 1")
_DELETE_TEXTS_OF_LINES = text(
    f"""
    update jobs set request = request - {_TEXTS}, choices = null, texts_deleted_at = now()
    where id = any(array(
        select id from jobs
        where batch_id = :batch_id and line > :after and texts_deleted_at is null
        order by line limit :step
    ))
    returning line
    """
)
_DELETE_JOBS = text(
    """
    delete from jobs where id = any(array(
        select id from jobs
        where batch_id is null and finished_at is not null and finished_at < :before
        order by finished_at limit :step
        for update skip locked
    ))
    """
)
_DELETE_LINES = text(
    """
    delete from jobs where id = any(array(
        select id from jobs where batch_id = :batch_id and line > :after
        order by line limit :step
    ))
    returning line
    """
)
