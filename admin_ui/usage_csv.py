"""A usage report as CSV (RFC 4180), sent while it is read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

from core.csv_cells import csv_cell
from core.ids import Prefix, show_id
from core.settings import Settings
from models.base import SessionFactory
from models.usage_cost import cost_of
from models.usage_parts import WantedUsage
from models.usage_report import GroupValue, UsageGroup, UsageSums, list_usage

#: Groups that are read at once.
PAGE_ROWS = 2000
#: Pages at most: the sending ends.
MOST_PAGES = 100
COLUMNS = (
    "group",
    "name",
    "owner",
    "requests",
    "succeeded",
    "not_successful",
    "success_rate",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "total_tokens",
    "mean_ms",
    "p95_ms",
    "cost",
    "currency",
)
_PREFIXES = {UsageGroup.KEY: Prefix.KEY, UsageGroup.USER: Prefix.USER}


def usage_csv(
    sessions: SessionFactory, wanted: WantedUsage, by: UsageGroup, settings: Settings
) -> Iterator[str]:
    """Return the lines of a report, its groups in their own order (time, id or name).

    The first piece has the head and the first groups: what cannot be read shows before it is sent.
    """
    after: GroupValue | None = None
    for page in range(MOST_PAGES):
        with sessions() as session:
            rows = list_usage(session, wanted, by, after=after, limit=PAGE_ROWS)
        head = [COLUMNS] if page == 0 else []
        yield _lines([*head, *(_row(sums, by, settings) for sums in rows)])
        if len(rows) < PAGE_ROWS:
            return
        after = rows[-1].group


def _row(sums: UsageSums, by: UsageGroup, settings: Settings) -> Sequence[object]:
    return (
        show_group(by, sums.group),
        sums.name,
        sums.owner,
        sums.requests,
        sums.succeeded,
        sums.unsuccessful,
        _rounded(sums.success_rate, 6),
        sums.prompt_tokens,
        sums.completion_tokens,
        sums.cached_tokens,
        sums.tokens,
        _rounded(sums.mean_ms, 1),
        _rounded(sums.p95_ms, 1),
        cost_of(sums, settings),
        settings.currency,
    )


def show_group(by: UsageGroup, group: GroupValue | None) -> str:
    """Return a group as the API writes it: an id, a time in UTC, or a name."""
    if isinstance(group, UUID):
        return show_id(_PREFIXES[by], group)
    if isinstance(group, datetime):
        return f"{group.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return group or ""


def _rounded(value: float | None, digits: int) -> float | str:
    return "" if value is None else round(value, digits)


def _lines(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([csv_cell(value) for value in row] for row in rows)
    return text.getvalue()
