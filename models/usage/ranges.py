"""The roll-ups that cover a time range: closed months and days, otherwise hours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Subquery, select, union_all

from core.calendar import day_of, month_of, next_month
from models.usage.rollups import UsageDaily, UsageMonthly, UsageTotalDaily, UsageTotalHourly
from models.usage.usage import UsageHourly

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class UsageScope:
    """The hours from `since` to before `until`, of one user, key or model.

    `None` means all of them.
    """

    since: datetime
    until: datetime
    user_id: UUID | None = None
    key_id: UUID | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class RollupRange:
    """The rows of a table that begin from `since` to before `until`."""

    table: Any
    since: datetime
    until: datetime


def plan_ranges(
    since: datetime,
    until: datetime,
    closed_until: datetime | None,
    *,
    is_by_key: bool,
    longest: timedelta | None,
) -> list[RollupRange]:
    """Return the fewest rows that cover whole hours, each hour once.

    Args:
        is_by_key: use the roll-ups of each key, not only those of all keys together.
        longest: `HOUR` or `DAY` if no row may cover a longer time.
    """
    pieces, parts = [(since, until)], []
    if closed_until is not None:
        day = day_of(closed_until)
        levels: list[tuple[Any, Any]] = []
        if is_by_key and longest is None:
            levels.append((UsageMonthly, lambda a, b: _whole_months(a, b, day)))
        if longest != HOUR:
            daily = UsageDaily if is_by_key else UsageTotalDaily
            levels.append((daily, lambda a, b: _whole_days(a, b, day)))
        if not is_by_key:
            levels.append((UsageTotalHourly, lambda a, b: (a, min(b, closed_until))))
        for table, whole in levels:
            rest = []
            for piece in pieces:
                first, last = whole(*piece)
                if first < last:
                    parts.append(RollupRange(table, first, last))
                    rest += [(piece[0], first), (last, piece[1])]
                else:
                    rest.append(piece)
            pieces = [(a, b) for a, b in rest if a < b]
    return parts + [RollupRange(UsageHourly, a, b) for a, b in pieces if a < b]


def select_ranges(
    parts: Sequence[RollupRange], wanted: UsageScope, names: Sequence[str]
) -> Subquery:
    """Return the named columns of the ranges' rows; `begins_at` is a row's time.

    Roll-ups of all keys together have no columns of keys and users.
    """
    selects = []
    for part in parts:
        table = part.table
        begins_at = table.hour if table is UsageHourly else table.begins_at
        columns = [
            (begins_at if name == "begins_at" else getattr(table, name)).label(name)
            for name in names
        ]
        query = select(*columns).where(begins_at >= part.since, begins_at < part.until)
        if wanted.user_id is not None:
            query = query.where(table.user_id == wanted.user_id)
        if wanted.key_id is not None:
            query = query.where(table.api_key_id == wanted.key_id)
        if wanted.model is not None:
            query = query.where(table.model == wanted.model)
        selects.append(query)
    return selects[0].subquery() if len(selects) == 1 else union_all(*selects).subquery()


def _whole_days(since: datetime, until: datetime, closed: datetime) -> tuple[datetime, datetime]:
    return day_of(since + DAY - timedelta.resolution), min(day_of(until), closed)


def _whole_months(since: datetime, until: datetime, closed: datetime) -> tuple[datetime, datetime]:
    """Return the whole months of a range.

    The roll-up of the current month covers its closed days. If the range extends past these days,
    they cover all of the month that is needed.
    """
    first = month_of(since)
    if first < since:
        first = next_month(since)
    return first, closed if until >= closed else month_of(until)
