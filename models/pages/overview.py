"""The figures of `GET /api/admin/overview`, read from roll-ups and counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.calendar import day_of, month_of
from models.accounts.api_key import ApiKey, is_active_key
from models.accounts.user import User
from models.batches.batch import Batch
from models.usage.usage import UsageHourly


@dataclass(frozen=True, slots=True)
class Traffic:
    """Sums over a time range."""

    requests: int
    succeeded: int
    prompt_tokens: int
    completion_tokens: int

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def success_rate(self) -> float | None:
        return self.succeeded / self.requests if self.requests else None


@dataclass(frozen=True, slots=True)
class Overview:
    """The figures of the service. Days and months begin at midnight UTC.

    Attributes:
        open_batches: batches that have not ended.
        open_lines: their lines that have not ended.
    """

    users: int
    keys: int
    active_keys: int
    open_batches: int
    open_lines: int
    today: Traffic
    month: Traffic


def read_overview(session: Session, now: datetime) -> Overview:
    """Return the figures as of `now`."""
    today = day_of(now)
    users = select(func.count()).select_from(User).where(User.deleted_at.is_(None))
    keys = (
        select(func.count(), func.count().filter(is_active_key(now)))
        .select_from(ApiKey)
        .join(User, User.id == ApiKey.user_id)
        .where(ApiKey.deleted_at.is_(None))
    )
    all_keys, active_keys = session.execute(keys).one()
    ended = Batch.succeeded + Batch.failed + Batch.cancelled + Batch.expired
    lines = func.coalesce(func.sum(Batch.total - ended), 0)
    batches = select(func.count(), lines).where(Batch.finished_at.is_(None))
    open_batches, open_lines = session.execute(batches.select_from(Batch)).one()
    return Overview(
        users=session.scalar(users) or 0,
        keys=all_keys,
        active_keys=active_keys,
        open_batches=open_batches,
        open_lines=open_lines,
        today=_traffic(session, today),
        month=_traffic(session, month_of(today)),
    )


def _traffic(session: Session, since: datetime) -> Traffic:
    columns = ("requests", "succeeded", "prompt_tokens", "completion_tokens")
    sums = [func.coalesce(func.sum(getattr(UsageHourly, name)), 0) for name in columns]
    row = session.execute(select(*sums).where(UsageHourly.hour >= since)).one()
    return Traffic(*(int(value) for value in row))
