"""What is deleted when its time is over, a few rows a step: texts, jobs, batches, messages and the
audit trail. Usage and its sums stay for ever.

A step is one short transaction on rows that an index finds; each returns how many rows it changed,
or where it stands, and leaves alone what waits, runs or is open. `worker/retention.py` calls them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, SmallInteger, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.ids import earliest_id
from models.advisory_locks import ServiceLock, try_lock
from models.audit import AuditEntry
from models.base import Base, is_one_of
from models.batch import Batch
from models.webhook import DeliveryState, WebhookDelivery

#: Rows of one step: so few that nobody waits for their locks.
STEP = 500
#: Those parts of a request that are the customer's own words.
_TEXTS = "'{prompt,messages,stop}'::text[]"


class RetentionMark(Base):
    """How far retention has come: one row.

    Attributes:
        texts_until: jobs without a batch that ended before have no texts any more.
        jobs_until: jobs that ended before may be gone; of those after none was deleted.
    """

    __tablename__ = "retention_mark"
    __table_args__ = (CheckConstraint("id = 1", name="one"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    texts_until: Mapped[datetime | None]
    jobs_until: Mapped[datetime | None]


def take_turn(session: Session) -> bool:
    """Hold the turn until this transaction ends; False if another process has it.

    Two workers at once would do the same.
    """
    return try_lock(session, ServiceLock.RETENTION)


def delete_texts(session: Session, before: datetime) -> int:
    """Delete requests and answers of some jobs that ended before a time.

    How far it came is kept, so that no step looks at what is done already.
    """
    since = session.scalar(select(RetentionMark.texts_until))
    if since is not None and since >= before:
        return 0
    values = {"since": since, "before": before, "step": STEP}
    count = len(session.execute(_DELETE_TEXTS, values).all())
    # Rows that others had locked were left out: they are met again.
    remaining = session.scalar(_FIRST_TEXTS, values)
    _mark(session, texts_until=before if remaining is None else remaining)
    return count


def batch_with_texts(session: Session, before: datetime) -> UUID | None:
    """Return a batch that ended before a time and has its texts."""
    return session.scalar(
        select(Batch.id)
        .where(Batch.finished_at < before, Batch.texts_deleted_at.is_(None))
        .order_by(Batch.finished_at)
        .limit(1)
    )


def delete_texts_of_lines(session: Session, batch_id: UUID, *, after: int) -> int | None:
    """Delete requests and answers of the next lines, from behind the line `after`.

    Returns the last of them; `None` when there are no more, and the batch says that they are gone.
    """
    values = {"batch_id": batch_id, "after": after, "step": STEP}
    lines: Sequence[int] = session.scalars(_DELETE_TEXTS_OF_LINES, values).all()
    if lines:
        return max(lines)
    session.execute(update(Batch).where(Batch.id == batch_id).values(texts_deleted_at=func.now()))
    return None


def delete_jobs(session: Session, before: datetime) -> int:
    """Delete some jobs that ended before a time and are no lines of batches."""
    _mark(session, jobs_until=before)
    rows = session.execute(_DELETE_JOBS, {"before": before, "step": STEP})
    return int(getattr(rows, "rowcount", 0))


def begin_batch(session: Session, before: datetime) -> UUID | None:
    """Choose a batch that ended before a time, and say that its lines go from now on."""
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
    """Delete the next lines of a batch; `None` when there are no more, and the batch is gone."""
    values = {"batch_id": batch_id, "after": after, "step": STEP}
    lines: Sequence[int] = session.scalars(_DELETE_LINES, values).all()
    if lines:
        return max(lines)
    session.execute(delete(Batch).where(Batch.id == batch_id))
    return None


def delete_webhooks(session: Session, before: datetime) -> int:
    """Delete some messages of before a time, with their attempts, that nobody tries to send."""
    old = (
        select(WebhookDelivery.id)
        .where(
            WebhookDelivery.id < earliest_id(before),
            # The id is of the clock of the machine that made it, which may have been behind.
            WebhookDelivery.created_at < before,
            WebhookDelivery.state != DeliveryState.PENDING,
        )
        .order_by(WebhookDelivery.id)
        .limit(STEP)
        .with_for_update(skip_locked=True)
    )
    rows = session.execute(delete(WebhookDelivery).where(is_one_of(WebhookDelivery.id, old)))
    return int(getattr(rows, "rowcount", 0))


def delete_audit(session: Session, before: datetime) -> int:
    """Delete some entries of before a time."""
    old = (
        select(AuditEntry.id)
        .where(AuditEntry.id < earliest_id(before), AuditEntry.at < before)
        .order_by(AuditEntry.id)
        .limit(STEP)
        .with_for_update(skip_locked=True)
    )
    rows = session.execute(delete(AuditEntry).where(is_one_of(AuditEntry.id, old)))
    return int(getattr(rows, "rowcount", 0))


def _mark(session: Session, **until: datetime) -> None:
    """Raise what the mark says; it never goes back."""
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
# Arrays, and no `in`: see `is_one_of`.
_DELETE_TEXTS = text(
    f"""
    update jobs set request = request - {_TEXTS}, choices = null, texts_deleted_at = now()
    where id = any(array(select id {_WITH_TEXTS} limit :step for update skip locked))
    returning id
    """  # noqa: S608 - of our own names alone
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
    """  # noqa: S608 - of our own names alone
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
