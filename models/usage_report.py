"""What was used in a time, in groups: read from the hourly roll-up, never from jobs or rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, func, select
from sqlalchemy.orm import Session

from core.duration_buckets import percentile
from models.api_key import ApiKey
from models.usage import UsageHourly
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


@dataclass(frozen=True, slots=True)
class WantedUsage:
    """Hours from `since` to below `until`, of one user, key or model, or of all (`None`)."""

    since: datetime
    until: datetime
    user_id: UUID | None = None
    key_id: UUID | None = None
    model: str | None = None

    @property
    def conditions(self) -> list[ColumnElement[bool]]:
        wanted = [UsageHourly.hour >= self.since, UsageHourly.hour < self.until]
        if self.user_id is not None:
            wanted.append(UsageHourly.user_id == self.user_id)
        if self.key_id is not None:
            wanted.append(UsageHourly.api_key_id == self.key_id)
        if self.model is not None:
            wanted.append(UsageHourly.model == self.model)
        return wanted


@dataclass(frozen=True, slots=True)
class UsageSums:
    """The sums of one group, or of all.

    Attributes:
        name: of the key, or the user's email; the group's value alone says little there.
        duration_counts: see `UsageHourly`.
    """

    group: GroupValue | None = None
    name: str = ""
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
    def mean_ms(self) -> float | None:
        return self.duration_ms / self.requests if self.requests else None

    @property
    def p95_ms(self) -> float | None:
        return percentile(self.duration_counts, 0.95)


def sum_usage(session: Session, wanted: WantedUsage) -> UsageSums:
    """Return the sums of all that is wanted."""
    row = session.execute(select(*_sums()).where(*wanted.conditions)).one()
    buckets = _buckets(None, wanted.conditions)
    counts = select(buckets.c.bucket, func.sum(buckets.c.n)).group_by(buckets.c.bucket)
    return UsageSums(
        **_read_sums(row),
        duration_counts={bucket: int(n) for bucket, n in session.execute(counts) if n},
    )


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
    group = _group(by)
    conditions = wanted.conditions
    if after is not None:
        conditions.append(group > after)
    rows = session.execute(
        select(group.label("group"), *_sums())
        .where(*conditions)
        .group_by(group)
        .order_by(group)
        .limit(limit)
    ).all()
    if not rows:
        return []
    conditions.append(group <= rows[-1].group)
    counts = _counts_by_group(session, group, conditions)
    names = _names(session, by, [row.group for row in rows])
    return [
        UsageSums(
            group=row.group,
            name=names.get(row.group, ""),
            **_read_sums(row),
            duration_counts=counts[row.group],
        )
        for row in rows
    ]


def _sums() -> list[ColumnElement[Any]]:
    return [func.coalesce(func.sum(getattr(UsageHourly, name)), 0).label(name) for name in _COUNTS]


def _read_sums(row: Row[Any]) -> dict[str, Any]:
    return {name: int(row._mapping[name]) for name in _COUNTS}


def _group(by: UsageGroup) -> ColumnElement[Any]:
    columns: dict[UsageGroup, Any] = {
        UsageGroup.KEY: UsageHourly.api_key_id,
        UsageGroup.USER: UsageHourly.user_id,
        UsageGroup.MODEL: UsageHourly.model,
        UsageGroup.DAY: func.date_trunc("day", UsageHourly.hour, "UTC"),
        UsageGroup.HOUR: UsageHourly.hour,
    }
    column: ColumnElement[Any] = columns[by]
    return column


def _buckets(group: ColumnElement[Any] | None, conditions: Sequence[ColumnElement[bool]]) -> Any:
    """Return a row for each bucket of each wanted hour: its number and its count."""
    counts = UsageHourly.duration_counts
    columns = [func.generate_subscripts(counts, 1).label("bucket"), func.unnest(counts).label("n")]
    if group is not None:
        columns.append(group.label("group"))
    return select(*columns).where(*conditions).subquery()


def _counts_by_group(
    session: Session, group: ColumnElement[Any], conditions: Sequence[ColumnElement[bool]]
) -> dict[Any, dict[int, int]]:
    buckets = _buckets(group, conditions)
    rows = session.execute(
        select(buckets.c.group, buckets.c.bucket, func.sum(buckets.c.n)).group_by(
            buckets.c.group, buckets.c.bucket
        )
    )
    counts: dict[Any, dict[int, int]] = defaultdict(dict)
    for value, bucket, n in rows:
        if n:
            counts[value][bucket] = int(n)
    return counts


def _names(session: Session, by: UsageGroup, groups: Sequence[Any]) -> dict[Any, str]:
    """Return the names of keys or users, of deleted ones too."""
    if by is UsageGroup.KEY:
        query = select(ApiKey.id, ApiKey.name).where(ApiKey.id.in_(groups))
    elif by is UsageGroup.USER:
        query = select(User.id, User.email).where(User.id.in_(groups))
    else:
        return {}
    return {row_id: name for row_id, name in session.execute(query)}
