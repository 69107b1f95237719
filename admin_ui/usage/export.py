"""Streams a usage report as CSV (RFC 4180)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

from admin_ui.usage.query import UsageQuery
from core.config.settings import Settings
from core.ids import Prefix, format_id
from core.text.csv_cells import csv_cell
from models.database.base import SessionFactory
from models.usage.cost import cost_of
from models.usage.ranges import UsageScope
from models.usage.report import GroupValue, UsageGroup, UsageTotals, rank_usage, read_usage

#: Groups in one query.
PAGE_ROWS = 2000
#: Most groups of a report.
MAX_ROWS = 200_000
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
    sessions: SessionFactory, wanted: UsageScope, query: UsageQuery, settings: Settings
) -> Iterator[str]:
    """Yield the lines of a report in chunks, its groups in the order of the page.

    The first chunk has the header and the first groups: a read that fails precedes the response.
    """
    with sessions() as session:
        groups = rank_usage(
            session,
            wanted,
            query.by,
            order=query.order,
            is_descending=query.is_descending,
            limit=MAX_ROWS,
        )
    header = [COLUMNS]
    for start in range(0, max(1, len(groups)), PAGE_ROWS):
        with sessions() as session:
            rows = read_usage(session, wanted, query.by, groups[start : start + PAGE_ROWS])
        yield _lines([*header, *(_row(sums, query.by, settings) for sums in rows)])
        header = []


def _row(sums: UsageTotals, by: UsageGroup, settings: Settings) -> Sequence[object]:
    return (
        group_text(by, sums.group),
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


def group_text(by: UsageGroup, group: GroupValue | None) -> str:
    """Return a group as the API writes it: an id, a time in UTC, or a name."""
    if isinstance(group, UUID):
        return format_id(_PREFIXES[by], group)
    if isinstance(group, datetime):
        return f"{group.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return group or ""


def _rounded(value: float | None, digits: int) -> float | str:
    return "" if value is None else round(value, digits)


def _lines(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([csv_cell(value) for value in row] for row in rows)
    return text.getvalue()
