"""Chart series in the format of `static/charts.js`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from models.pages.dashboard import Minute
from models.usage.report import UsageTotals

MINUTE = timedelta(minutes=1)


class Chart(StrEnum):
    TOKENS = "tokens"
    REQUESTS = "requests"
    TIMES = "times"


def chart_of_sums(chart: Chart, rows: Sequence[UsageTotals], step: timedelta) -> dict[str, Any]:
    """Return the chart of hours or days.

    Args:
        rows: `group` is the start of each hour or day.
    """
    starts = [row.group for row in rows if isinstance(row.group, datetime)]
    return _chart(chart, starts, step, _SUMS[chart], rows)


def chart_of_minutes(chart: Chart, minutes: Sequence[Minute]) -> dict[str, Any]:
    """Return the chart of minutes."""
    starts = [minute.begins_at for minute in minutes]
    return _chart(chart, starts, MINUTE, _MINUTES[chart], minutes)


#: Name, tone and value of each series. The first of stacked series is the lowest.
_Series = Sequence[tuple[str, str, Callable[[Any], float | None]]]

_REQUESTS: _Series = (
    ("Succeeded", "good", lambda row: row.succeeded),
    ("Not successful", "bad", lambda row: row.requests - row.succeeded),
)
_TIMES: _Series = (
    ("Median", "accent", lambda row: row.p50_ms),
    ("95% within (p95)", "warning", lambda row: row.p95_ms),
)
_SUMS: dict[Chart, _Series] = {
    Chart.TOKENS: (
        ("Completions", "accent", lambda row: row.completion_tokens),
        ("Prompts", "soft", lambda row: row.prompt_tokens),
    ),
    Chart.REQUESTS: _REQUESTS,
    Chart.TIMES: _TIMES,
}
_MINUTES: dict[Chart, _Series] = {
    Chart.TOKENS: (("Tokens", "accent", lambda row: row.tokens),),
    Chart.REQUESTS: _REQUESTS,
    Chart.TIMES: _TIMES,
}


def _chart(
    chart: Chart, starts: Sequence[datetime], step: timedelta, series: _Series, rows: Sequence[Any]
) -> dict[str, Any]:
    return {
        "x": [int(start.timestamp()) for start in starts],
        "step": int(step.total_seconds()),
        "kind": "lines" if chart is Chart.TIMES else "stacked",
        "unit": "ms" if chart is Chart.TIMES else "",
        "series": [
            {"label": label, "tone": tone, "values": [value(row) for row in rows]}
            for label, tone, value in series
        ],
    }
