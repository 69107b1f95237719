"""Roll-ups of closed hours, days and months, for reports over long times.

    usage_hourly   key and hour       written in the transaction of each job's end
    usage_daily    key and day        of closed days
    usage_monthly  key and month      of the closed days of the month
    usage_total_hourly, _daily        of all keys together, by model

One time, `UsageClosing.closed_until`, limits the roll-ups: hourly totals cover everything before
it, the others cover whole days before it. `models/usage/rollup_jobs.py` advances it.
These tables have no foreign keys, because the rows that they sum have them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, Index, SmallInteger, String, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.database.base import Base

T = TypeVar("T")
#: Hours are closed once an hour, so a second read is rare.
_READS = 3


#: The index by time contains the columns that rank all keys, so that it alone is read.
_WEIGHED = ["api_key_id", "user_id", "prompt_tokens", "completion_tokens"]


class _Sums:
    """The sums, as in `UsageHourly`.

    `begins_at` is the start of the hour, day or month.
    """

    requests: Mapped[int] = mapped_column(BigInteger)
    succeeded: Mapped[int] = mapped_column(BigInteger)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger)
    duration_ms: Mapped[int] = mapped_column(BigInteger)
    duration_counts: Mapped[list[int | None]] = mapped_column(
        ARRAY(BigInteger), server_default=text("'{}'")
    )


class _OfKey(_Sums):
    api_key_id: Mapped[UUID] = mapped_column(primary_key=True)
    begins_at: Mapped[datetime] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(String(200), primary_key=True)
    user_id: Mapped[UUID]


class UsageDaily(_OfKey, Base):
    __tablename__ = "usage_daily"
    __table_args__ = (
        Index("ix_usage_daily_begins_at", "begins_at", postgresql_include=_WEIGHED),
        Index("ix_usage_daily_user_id_begins_at", "user_id", "begins_at"),
    )


class UsageMonthly(_OfKey, Base):
    __tablename__ = "usage_monthly"
    __table_args__ = (
        Index("ix_usage_monthly_begins_at", "begins_at", postgresql_include=_WEIGHED),
        Index("ix_usage_monthly_user_id_begins_at", "user_id", "begins_at"),
    )


class _OfAll(_Sums):
    begins_at: Mapped[datetime] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(String(200), primary_key=True)


class UsageTotalHourly(_OfAll, Base):
    __tablename__ = "usage_total_hourly"


class UsageTotalDaily(_OfAll, Base):
    __tablename__ = "usage_total_daily"


class UsageClosing(Base):
    """One row: hours before `closed_until` are closed. Without the row, none are."""

    __tablename__ = "usage_closing"
    __table_args__ = (CheckConstraint("id = 1", name="one"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    closed_until: Mapped[datetime]


def closed_until(session: Session) -> datetime | None:
    """Return the time before which hours are closed; `None` if none are."""
    found: datetime | None = session.scalar(text("select closed_until from usage_closing"))
    return found


def read_consistently(session: Session, read: Callable[[datetime | None], T]) -> T:
    """Run `read` against a consistent `closed_until`.

    READ COMMITTED statements may straddle a roll-up, so retry until `closed_until` is unchanged.
    """
    closed = closed_until(session)
    for _ in range(_READS):
        found = read(closed)
        before, closed = closed, closed_until(session)
        if before == closed:
            return found
    return read(None)
