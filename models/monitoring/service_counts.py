"""Counts of waiting jobs, accounts and open work.

Their cost does not depend on the number of ended jobs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Float, cast, distinct, func, select
from sqlalchemy.orm import Session

from models.accounts.api_key import ApiKey, is_active_key
from models.accounts.user import User
from models.batches.batch import Batch, BatchState
from models.jobs.job import Job, JobState
from models.usage.usage import UsageHourly
from models.webhooks.webhook import DeliveryState, WebhookDelivery

#: A user or key is recent if one of its jobs ended within this time. Roll-ups are of whole hours.
RECENT = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Waiting:
    """The jobs of one queue that wait for a worker, and the age of the oldest one."""

    jobs: int = 0
    oldest_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Accounts:
    """Users and keys that are not deleted.

    Attributes:
        active_users: users that are not suspended.
        recent_users: users with jobs that ended within `RECENT`; `recent_keys` likewise.
        active_keys: keys that may be used (`is_active_key`).
    """

    users: int
    active_users: int
    recent_users: int
    keys: int
    active_keys: int
    recent_keys: int


@dataclass(frozen=True, slots=True)
class OpenCounts:
    """Open batches by state, their lines that have not ended, and pending webhooks."""

    batches: dict[str, int]
    lines: int
    webhooks: int


def count_waiting(session: Session) -> dict[str, Waiting]:
    """Return the waiting jobs of each queue."""
    since = func.min(Job.queued_at)
    age = cast(func.extract("epoch", func.now() - since), Float)
    rows = session.execute(
        select(Job.queue, func.count(), age)
        .where(Job.state == JobState.QUEUED, ~Job.is_held)
        .group_by(Job.queue)
    )
    return {queue: Waiting(jobs, max(0.0, seconds)) for queue, jobs, seconds in rows}


def count_held_lines(session: Session) -> int:
    """Return the number of held batch lines, which are on no queue yet.

    Subtracts the released lines from the open ones, so that it never counts the held lines.
    """
    ended = Batch.succeeded + Batch.failed + Batch.cancelled + Batch.expired
    lines = func.coalesce(func.sum(Batch.total - ended), 0)
    is_open = Batch.finished_at.is_(None)
    released = (
        select(func.count())
        .select_from(Job)
        .where(
            # PostgreSQL uses the index of released lines only for the index's own condition.
            Job.batch_id.is_not(None),
            ~Job.is_held,
            Job.state.in_([JobState.QUEUED, JobState.RUNNING]),
        )
        .scalar_subquery()
    )
    found = session.scalar(select(lines - released).where(is_open)) or 0
    return max(0, int(found))


def count_accounts(session: Session) -> Accounts:
    now = func.now()
    active = func.count().filter(is_active_key(now))
    keys, active_keys = session.execute(
        select(func.count(), active)
        .select_from(ApiKey)
        .join(User, User.id == ApiKey.user_id)
        .where(ApiKey.deleted_at.is_(None))
    ).one()
    recent_users, recent_keys = session.execute(
        select(
            func.count(distinct(UsageHourly.user_id)), func.count(distinct(UsageHourly.api_key_id))
        ).where(UsageHourly.hour > now - RECENT)
    ).one()
    users, active_users = session.execute(
        select(func.count(), func.count().filter(User.is_active)).where(User.deleted_at.is_(None))
    ).one()
    return Accounts(users, active_users, recent_users, keys, active_keys, recent_keys)


def count_open_work(session: Session) -> OpenCounts:
    ended = Batch.succeeded + Batch.failed + Batch.cancelled + Batch.expired
    rows = session.execute(
        select(Batch.state, func.count(), func.sum(Batch.total - ended))
        .where(Batch.finished_at.is_(None))
        .group_by(Batch.state)
    ).all()
    batches = {state.value: 0 for state in BatchState if not state.is_final}
    pending = select(func.count()).where(WebhookDelivery.state == DeliveryState.PENDING)
    return OpenCounts(
        batches=batches | {state: count for state, count, _ in rows},
        lines=sum(int(lines) for _, _, lines in rows),
        webhooks=session.scalar(pending) or 0,
    )
