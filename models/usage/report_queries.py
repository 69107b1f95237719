"""The rows that a usage report reads; queries that rank and sum its groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Select,
    Subquery,
    cast,
    func,
    literal,
    select,
)

from models.usage.ranges import DAY, HOUR, RollupRange, UsageScope, plan_ranges, select_ranges
from models.usage.usage import USAGE_COUNTS

#: The value of a group: an id, a model's name, or the start of an hour or day.
GroupValue = UUID | str | datetime


class UsageGroup(StrEnum):
    KEY = "key"
    USER = "user"
    MODEL = "model"
    DAY = "day"
    HOUR = "hour"


class UsageOrder(StrEnum):
    """The value that orders the groups."""

    GROUP = "group"
    REQUESTS = "requests"
    SUCCESS = "success"
    PROMPT = "prompt"
    COMPLETION = "completion"
    CACHED = "cached"
    TOKENS = "tokens"
    MEAN = "mean"


@dataclass(frozen=True, slots=True)
class UsageRows:
    """The rows that a report sums, and the column that groups them."""

    wanted: UsageScope
    by: UsageGroup | None
    parts: list[RollupRange]
    rows: Subquery

    @classmethod
    def of(
        cls,
        wanted: UsageScope,
        by: UsageGroup | None,
        closed: datetime | None,
        order: UsageOrder = UsageOrder.TOKENS,
    ) -> UsageRows | None:
        """Return the rows; `None` for a time range that contains no hour."""
        is_by_key = (
            by in {UsageGroup.KEY, UsageGroup.USER}
            or wanted.key_id is not None
            or wanted.user_id is not None
        )
        longest = {UsageGroup.DAY: DAY, UsageGroup.HOUR: HOUR}.get(by) if by else None
        parts = plan_ranges(
            wanted.since, wanted.until, closed, is_by_key=is_by_key, longest=longest
        )
        if not parts:
            return None
        names = [*_WEIGHED[order], *([_COLUMN[by]] if by else [])]
        return cls(wanted, by, parts, select_ranges(parts, wanted, names))

    @property
    def group(self) -> ColumnElement[Any]:
        return self.group_of(self.rows)

    def group_of(self, rows: Subquery) -> ColumnElement[Any]:
        assert self.by is not None
        column: ColumnElement[Any] = rows.c[_COLUMN[self.by]]
        if self.by is UsageGroup.DAY:
            return func.date_trunc("day", column, "UTC", type_=column.type)
        return column

    def weight(self, order: UsageOrder) -> ColumnElement[Any]:
        """Return the expression that orders the groups."""
        if order is UsageOrder.GROUP:
            return self.group
        first, *rest = (self.rows.c[name] for name in _WEIGHED[order])
        if order in {UsageOrder.SUCCESS, UsageOrder.MEAN}:
            return func.sum(first) * 1.0 / func.sum(rest[0])
        return func.sum(sum(rest, first))

    def pick(self, after: GroupValue | None = None) -> Select[Any]:
        """Return the query for the groups, without the sums: most groups are only ranked."""
        query = select(self.group.label("group")).group_by(self.group)
        return query if after is None else query.where(self.group > after)

    def sums(self, is_wanted: Callable[[ColumnElement[Any]], Any] | None = None) -> Select[Any]:
        """Return the query for the sums of each wanted group; without groups, of group 0.

        It returns the counts of durations as two arrays per group, buckets and counts: one row
        per bucket would be many times as many rows.
        """
        grouping = [_COLUMN[self.by]] if self.by else []
        rows = select_ranges(self.parts, self.wanted, [*USAGE_COUNTS, "duration_counts", *grouping])
        group = self.group_of(rows) if self.by else literal(0)
        query = select(group.label("group"), *(rows.c[name] for name in USAGE_COUNTS))
        query = query.add_columns(rows.c.duration_counts)
        if is_wanted is not None:
            query = query.where(is_wanted(group))
        # A CTE that two queries refer to is read once.
        read = query.cte()
        durations = _count_durations(read)
        totals = (func.sum(read.c[name]).label(name) for name in USAGE_COUNTS)
        summed = select(read.c.group, *totals).group_by(read.c.group).subquery()
        return select(summed, durations.c.buckets, durations.c.counts).join_from(
            summed, durations, summed.c.group == durations.c.group, isouter=True
        )


def _count_durations(read: CTE) -> Subquery:
    counts = read.c.duration_counts
    counted = select(
        read.c.group,
        func.generate_subscripts(counts, 1).label("bucket"),
        func.unnest(counts).label("n"),
    ).subquery()
    buckets = (
        select(
            counted.c.group, counted.c.bucket, cast(func.sum(counted.c.n), BigInteger).label("n")
        )
        .where(counted.c.n > 0)
        .group_by(counted.c.group, counted.c.bucket)
        .subquery()
    )
    return (
        select(
            buckets.c.group,
            func.array_agg(buckets.c.bucket).label("buckets"),
            func.array_agg(buckets.c.n).label("counts"),
        )
        .group_by(buckets.c.group)
        .subquery()
    )


#: The columns that each order needs.
_WEIGHED: dict[UsageOrder, tuple[str, ...]] = {
    UsageOrder.GROUP: (),
    UsageOrder.REQUESTS: ("requests",),
    UsageOrder.SUCCESS: ("succeeded", "requests"),
    UsageOrder.PROMPT: ("prompt_tokens",),
    UsageOrder.COMPLETION: ("completion_tokens",),
    UsageOrder.CACHED: ("cached_tokens",),
    UsageOrder.TOKENS: ("prompt_tokens", "completion_tokens"),
    UsageOrder.MEAN: ("duration_ms", "requests"),
}

#: The column of each kind of group.
_COLUMN = {
    UsageGroup.KEY: "api_key_id",
    UsageGroup.USER: "user_id",
    UsageGroup.MODEL: "model",
    UsageGroup.DAY: "begins_at",
    UsageGroup.HOUR: "begins_at",
}
