"""Chart data of the current month: tokens per day, for `static/charts.js`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from admin_ui.widgets.chart_data import Chart, chart_of_sums
from core.calendar import month_of
from models.database.base import Session
from models.usage.report import UsageGroup, UsageScope, UsageTotals, list_usage

DAY = timedelta(days=1)
MAX_DAYS = 31


def month_series(
    session: Session, now: datetime, *, user_id: UUID | None = None, key_id: UUID | None = None
) -> dict[str, Any]:
    """Return the tokens of a user or a key for each day of this month (UTC) until today."""
    since = month_of(now)
    wanted = UsageScope(since, now + DAY, user_id=user_id, key_id=key_id)
    used = list_usage(session, wanted, UsageGroup.DAY, after=None, limit=MAX_DAYS)
    by_day = {sums.group: sums for sums in used}
    days = [since + number * DAY for number in range(now.day)]
    rows = [by_day.get(day, UsageTotals(group=day)) for day in days]
    return chart_of_sums(Chart.TOKENS, rows, DAY)
