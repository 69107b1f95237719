"""Reports of usage by group. They read roll-ups, never jobs or rows of usage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, literal, union_all
from sqlalchemy.orm import Session

from core.histogram import percentile
from models.accounts.names import key_names, user_emails
from models.database.arrays import is_one_of
from models.database.pagination import Numbered
from models.usage.ranges import UsageScope as UsageScope  # the parameter of every report
from models.usage.report_queries import GroupValue as GroupValue
from models.usage.report_queries import UsageGroup as UsageGroup
from models.usage.report_queries import UsageOrder as UsageOrder
from models.usage.report_queries import UsageRows
from models.usage.rollups import read_consistently
from models.usage.usage import USAGE_COUNTS


@dataclass(frozen=True, slots=True)
class UsageTotals:
    """The sums of one group, or of all usage.

    Attributes:
        name: the name of a key, or the email of a user, whose `group` is only an id.
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
        """Jobs that failed, or were cancelled after their start."""
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


def sum_usage(session: Session, wanted: UsageScope) -> UsageTotals:
    """Return the sums of all usage in the scope."""
    return sum_usage_by_name(session, {"": wanted})[""]


def sum_usage_by_name(session: Session, times: Mapping[str, UsageScope]) -> dict[str, UsageTotals]:
    """Return the totals of several scopes by name, in one statement."""

    def read(closed: datetime | None) -> dict[str, UsageTotals]:
        sources = {name: UsageRows.of(wanted, None, closed) for name, wanted in times.items()}
        sums = [
            source.sums().add_columns(literal(name).label("name"))
            for name, source in sources.items()
            if source is not None
        ]
        found = {name: UsageTotals() for name in times}
        if sums:
            rows = session.execute(sums[0] if len(sums) == 1 else union_all(*sums))
            found |= {row._mapping["name"]: UsageTotals(**_read_sums(row)) for row in rows}
        return found

    return read_consistently(session, read)


def add_totals(groups: Iterable[UsageTotals]) -> UsageTotals:
    """Add up the groups of a complete report; this saves the call of `sum_usage`."""
    totals = dict.fromkeys(USAGE_COUNTS, 0)
    counts: Counter[int] = Counter()
    for sums in groups:
        for name in USAGE_COUNTS:
            totals[name] += getattr(sums, name)
        counts.update(sums.duration_counts)
    return UsageTotals(**totals, duration_counts=dict(counts))  # type: ignore[arg-type]


def list_usage(
    session: Session,
    wanted: UsageScope,
    by: UsageGroup,
    *,
    after: GroupValue | None,
    limit: int,
) -> list[UsageTotals]:
    """Return the sums of each group with usage, in the order of the groups.

    Args:
        after: return only groups after this one.
    """

    def read(closed: datetime | None) -> list[UsageTotals]:
        source = UsageRows.of(wanted, by, closed)
        if source is None:
            return []
        picked = session.scalars(source.pick(after).order_by(source.group).limit(limit)).all()
        # The picked groups are adjacent: they are all that lie between the first and the last.
        return _read_groups(
            session, source, picked, lambda group: group.between(picked[0], picked[-1])
        )

    return read_consistently(session, read)


def page_usage(
    session: Session,
    wanted: UsageScope,
    by: UsageGroup,
    *,
    order: UsageOrder = UsageOrder.TOKENS,
    is_descending: bool = True,
    offset: int = 0,
    limit: int,
) -> Numbered[UsageTotals]:
    """Return a page of groups by usage, most tokens first, and the number of groups.

    A page beyond the last group has no rows and reports 0 groups, because the rows contain the
    count.
    """

    def read(closed: datetime | None) -> Numbered[UsageTotals]:
        source = UsageRows.of(wanted, by, closed, order)
        if source is None:
            return Numbered([], 0)
        query = _ranked(source, order, is_descending).add_columns(func.count().over())
        found = session.execute(query.offset(offset).limit(limit)).all()
        picked = [group for group, _ in found]
        rows = _read_groups(session, source, picked, lambda group: is_one_of(group, picked))
        return Numbered(rows, found[0][1] if found else 0)

    return read_consistently(session, read)


def rank_usage(
    session: Session,
    wanted: UsageScope,
    by: UsageGroup,
    *,
    order: UsageOrder,
    is_descending: bool,
    limit: int,
) -> list[GroupValue]:
    """Return groups without sums, in the order of `page_usage`."""

    def read(closed: datetime | None) -> list[GroupValue]:
        source = UsageRows.of(wanted, by, closed, order)
        if source is None:
            return []
        query = _ranked(source, order, is_descending).limit(limit)
        return list(session.scalars(query))

    return read_consistently(session, read)


def read_usage(
    session: Session, wanted: UsageScope, by: UsageGroup, groups: Sequence[GroupValue]
) -> list[UsageTotals]:
    """Return the sums of these groups in the given order; omit groups without usage."""

    def read(closed: datetime | None) -> list[UsageTotals]:
        source = UsageRows.of(wanted, by, closed)
        if source is None:
            return []
        return _read_groups(session, source, groups, lambda group: is_one_of(group, groups))

    return read_consistently(session, read)


def _ranked(source: UsageRows, order: UsageOrder, is_descending: bool) -> Select[Any]:
    weight = source.weight(order)
    return source.pick().order_by(weight.desc() if is_descending else weight, source.group)


def _read_groups(
    session: Session,
    source: UsageRows,
    groups: Sequence[Any],
    is_wanted: Callable[[ColumnElement[Any]], Any],
) -> list[UsageTotals]:
    """Return the sums of `groups` in order; `is_wanted` is the condition for them."""
    if not groups:
        return []
    assert source.by is not None
    names = _names(session, source.by, groups)
    found = {
        row.group: UsageTotals(row.group, **names.get(row.group, {}), **_read_sums(row))
        for row in session.execute(source.sums(is_wanted))
    }
    return [found[group] for group in groups if group in found]


def _read_sums(row: Row[Any]) -> dict[str, Any]:
    found = row._mapping
    sums: dict[str, Any] = {name: int(found[name]) for name in USAGE_COUNTS}
    counts = dict(zip(row.buckets or (), row.counts or (), strict=True))
    return {**sums, "duration_counts": counts}


def _names(session: Session, by: UsageGroup, groups: Sequence[Any]) -> dict[Any, dict[str, Any]]:
    """Return the names of keys and users as fields of `UsageTotals`."""
    if by is UsageGroup.KEY:
        keys = key_names(session, groups)
        return {
            key_id: {"name": key.name, "owner": key.owner_email} for key_id, key in keys.items()
        }
    if by is UsageGroup.USER:
        emails = user_emails(session, groups)
        return {user_id: {"name": email} for user_id, email in emails.items()}
    return {}
