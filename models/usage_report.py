"""What was used in a time, in groups: read from sums, never from jobs or rows of usage."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, Subquery, func, literal, select, union_all
from sqlalchemy.orm import Session

from core.duration_buckets import percentile
from models.api_key import ApiKey
from models.usage_levels import steadily
from models.usage_parts import DAY, HOUR, Part, parts_of, rows_of
from models.usage_parts import WantedUsage as WantedUsage  # what a report is asked for
from models.user import User

#: What stands for a group in the answer: an id, a model's name, or when it begins.
GroupValue = UUID | str | datetime

_COUNTS = (
    "requests",
    "succeeded",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "duration_ms",
)


class UsageGroup(StrEnum):
    KEY = "key"
    USER = "user"
    MODEL = "model"
    DAY = "day"
    HOUR = "hour"


class UsageOrder(StrEnum):
    """What groups can be ordered by."""

    GROUP = "group"
    REQUESTS = "requests"
    SUCCESS = "success"
    PROMPT = "prompt"
    COMPLETION = "completion"
    CACHED = "cached"
    TOKENS = "tokens"
    MEAN = "mean"


@dataclass(frozen=True, slots=True)
class UsageSums:
    """The sums of one group, or of all.

    Attributes:
        name: of the key, or the user's email; the group's value alone says little there.
        owner: the email of the key's owner.
        duration_counts: see `UsageHourly`.
    """

    group: GroupValue | None = None
    name: str = ""
    owner: str = ""
    requests: int = 0
    succeeded: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    duration_ms: int = 0
    duration_counts: dict[int, int] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def success_rate(self) -> float | None:
        return self.succeeded / self.requests if self.requests else None

    @property
    def unsuccessful(self) -> int:
        """Those that failed, and those that were cancelled after they had begun."""
        return self.requests - self.succeeded

    @property
    def mean_ms(self) -> float | None:
        return self.duration_ms / self.requests if self.requests else None

    @property
    def p50_ms(self) -> float | None:
        return percentile(self.duration_counts, 0.5)

    @property
    def p95_ms(self) -> float | None:
        return percentile(self.duration_counts, 0.95)


def sum_usage(session: Session, wanted: WantedUsage) -> UsageSums:
    """Return the sums of all that is wanted."""

    def read(closed: datetime | None) -> UsageSums:
        source = _Source.of(wanted, None, closed)
        if source is None:
            return UsageSums()
        row = session.execute(source.sums()).one()
        counts = source.counts()
        return UsageSums(
            **_read_sums(row), duration_counts={b: int(n) for b, n in session.execute(counts) if n}
        )

    return steadily(session, read)


def sum_several(session: Session, times: Mapping[str, WantedUsage]) -> dict[str, UsageSums]:
    """Return the sums of several times by their names, in two looks for all."""

    def read(closed: datetime | None) -> dict[str, UsageSums]:
        sources = {name: _Source.of(wanted, None, closed) for name, wanted in times.items()}
        arms = [
            source.sums().add_columns(literal(name).label("name"))
            for name, source in sources.items()
            if source is not None
        ]
        found = {name: UsageSums() for name in times}
        if not arms:
            return found
        counts = union_all(
            *(
                source.counts().add_columns(literal(name))
                for name, source in sources.items()
                if source is not None
            )
        )
        durations: dict[str, dict[int, int]] = defaultdict(dict)
        for bucket, n, name in session.execute(counts):
            if n:
                durations[name][bucket] = int(n)
        for row in session.execute(union_all(*arms)):
            name = row._mapping["name"]
            found[name] = UsageSums(**_read_sums(row), duration_counts=durations[name])
        return found

    return steadily(session, read)


def add_up(groups: Iterable[UsageSums]) -> UsageSums:
    """Return the sums of groups that are all there are: spares `sum_usage` its own look."""
    totals = dict.fromkeys(_COUNTS, 0)
    counts: Counter[int] = Counter()
    for sums in groups:
        for name in _COUNTS:
            totals[name] += getattr(sums, name)
        counts.update(sums.duration_counts)
    return UsageSums(**totals, duration_counts=dict(counts))  # type: ignore[arg-type]


def list_usage(
    session: Session,
    wanted: WantedUsage,
    by: UsageGroup,
    *,
    after: GroupValue | None,
    limit: int,
) -> list[UsageSums]:
    """Return the sums of each group in which something was used, in the order of the groups.

    Args:
        after: begin behind this group.
    """

    def read(closed: datetime | None) -> list[UsageSums]:
        source = _Source.of(wanted, by, closed)
        if source is None:
            return []
        return _read_groups(session, source, source.pick(after).order_by(source.group).limit(limit))

    return steadily(session, read)


def top_usage(
    session: Session,
    wanted: WantedUsage,
    by: UsageGroup,
    *,
    order: UsageOrder = UsageOrder.TOKENS,
    is_descending: bool = True,
    offset: int = 0,
    limit: int,
) -> list[UsageSums]:
    """Return groups by their use: those that used most tokens first, if not told otherwise."""

    def read(closed: datetime | None) -> list[UsageSums]:
        source = _Source.of(wanted, by, closed, order)
        if source is None:
            return []
        weight = source.weight(order)
        query = source.pick().order_by(weight.desc() if is_descending else weight, source.group)
        return _read_groups(session, source, query.offset(offset).limit(limit))

    return steadily(session, read)


@dataclass(frozen=True, slots=True)
class _Source:
    """The rows that a report sums, and what groups them."""

    wanted: WantedUsage
    by: UsageGroup | None
    parts: list[Part]
    rows: Subquery

    @classmethod
    def of(
        cls,
        wanted: WantedUsage,
        by: UsageGroup | None,
        closed: datetime | None,
        order: UsageOrder = UsageOrder.TOKENS,
    ) -> _Source | None:
        """Return the rows; `None` for a time without any hour."""
        is_by_key = (
            by in {UsageGroup.KEY, UsageGroup.USER}
            or wanted.key_id is not None
            or wanted.user_id is not None
        )
        longest = {UsageGroup.DAY: DAY, UsageGroup.HOUR: HOUR}.get(by) if by else None
        parts = parts_of(wanted.since, wanted.until, closed, is_by_key=is_by_key, longest=longest)
        if not parts:
            return None
        names = [*_WEIGHED[order], *([_COLUMN[by]] if by else [])]
        return cls(wanted, by, parts, rows_of(parts, wanted, names))

    @property
    def group(self) -> ColumnElement[Any]:
        return self.group_of(self.rows)

    def group_of(self, rows: Subquery) -> ColumnElement[Any]:
        assert self.by is not None
        column: ColumnElement[Any] = rows.c[_COLUMN[self.by]]
        if self.by is UsageGroup.DAY:
            return func.date_trunc("day", column, "UTC")
        return column

    def weight(self, order: UsageOrder) -> ColumnElement[Any]:
        """Return what groups are ordered by."""
        if order is UsageOrder.GROUP:
            return self.group
        first, *rest = (self.rows.c[name] for name in _WEIGHED[order])
        if order in {UsageOrder.SUCCESS, UsageOrder.MEAN}:
            return func.sum(first) * 1.0 / func.sum(rest[0])
        return func.sum(sum(rest, first))

    def pick(self, after: GroupValue | None = None) -> Select[Any]:
        """Return the query for the groups: most of many keys are only weighed, not summed."""
        query = select(self.group.label("group")).group_by(self.group)
        return query if after is None else query.where(self.group > after)

    def sums(self, groups: Sequence[Any] | None = None) -> Select[Any]:
        """Return the query for the sums of all, or of each of the groups."""
        names = [*_COUNTS, *([_COLUMN[self.by]] if self.by else [])]
        rows = rows_of(self.parts, self.wanted, names)
        sums = [func.coalesce(func.sum(rows.c[name]), 0).label(name) for name in _COUNTS]
        if groups is None:
            return select(*sums)
        group = self.group_of(rows)
        query = select(group.label("group"), *sums).group_by(group)
        return query.where(group.in_(groups))

    def counts(self, groups: Sequence[Any] | None = None) -> Select[Any]:
        """Return the query for how many durations fell into each bucket, of each of the groups."""
        grouping = [_COLUMN[self.by]] if self.by else []
        rows = rows_of(self.parts, self.wanted, ["duration_counts", *grouping])
        counts = rows.c.duration_counts
        columns: list[Any] = [
            func.generate_subscripts(counts, 1).label("bucket"),
            func.unnest(counts).label("n"),
        ]
        if groups is None:
            buckets = select(*columns).subquery()
            return select(buckets.c.bucket, func.sum(buckets.c.n)).group_by(buckets.c.bucket)
        group = self.group_of(rows)
        buckets = select(group.label("group"), *columns).where(group.in_(groups)).subquery()
        return select(buckets.c.group, buckets.c.bucket, func.sum(buckets.c.n)).group_by(
            buckets.c.group, buckets.c.bucket
        )


#: The columns that decide an order.
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

#: What the groups are made of.
_COLUMN = {
    UsageGroup.KEY: "api_key_id",
    UsageGroup.USER: "user_id",
    UsageGroup.MODEL: "model",
    UsageGroup.DAY: "begins_at",
    UsageGroup.HOUR: "begins_at",
}


def _read_groups(session: Session, source: _Source, picked: Select[Any]) -> list[UsageSums]:
    """Return the sums of the groups that a query picks, in its order."""
    assert source.by is not None
    groups = session.scalars(picked).all()
    if not groups:
        return []
    counts: dict[Any, dict[int, int]] = defaultdict(dict)
    for group, bucket, n in session.execute(source.counts(groups)):
        if n:
            counts[group][bucket] = int(n)
    names = _names(session, source.by, groups)
    found = {
        row.group: UsageSums(
            group=row.group,
            **names.get(row.group, {}),
            **_read_sums(row),
            duration_counts=counts[row.group],
        )
        for row in session.execute(source.sums(groups))
    }
    return [found[group] for group in groups]


def _read_sums(row: Row[Any]) -> dict[str, Any]:
    return {name: int(row._mapping[name]) for name in _COUNTS}


def _names(session: Session, by: UsageGroup, groups: Sequence[Any]) -> dict[Any, dict[str, Any]]:
    """Return what keys and users are called, deleted ones too."""
    if by is UsageGroup.KEY:
        keys = select(ApiKey.id, ApiKey.name, User.email).join(User, User.id == ApiKey.user_id)
        rows = session.execute(keys.where(ApiKey.id.in_(groups)))
        return {key_id: {"name": name, "owner": owner} for key_id, name, owner in rows}
    if by is UsageGroup.USER:
        users = select(User.id, User.email).where(User.id.in_(groups))
        return {user_id: {"name": email} for user_id, email in session.execute(users)}
    return {}
