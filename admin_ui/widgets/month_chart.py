"""The chart of a month: the tokens of each day until now, as `static/charts.js` takes them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from admin_ui.widgets.chart_data import Chart, chart_of_sums
from core.calendar import month_of
from models.database.base import Session
from models.usage.report import UsageGroup, UsageSums, WantedUsage, list_usage

DAY = timedelta(days=1)
MOST_DAYS = 31


def month_series(
    session: Session, now: datetime, *, user_id: UUID | None = None, key_id: UUID | None = None
) -> dict[str, Any]:
    """Return the tokens of a user's or a key's days in this month (UTC)."""
    since = month_of(now)
    wanted = WantedUsage(since, now + DAY, user_id=user_id, key_id=key_id)
    used = list_usage(session, wanted, UsageGroup.DAY, after=None, limit=MOST_DAYS)
    by_day = {sums.group: sums for sums in used}
    days = [since + place * DAY for place in range(now.day)]
    rows = [by_day.get(day, UsageSums(group=day)) for day in days]
    return chart_of_sums(Chart.TOKENS, rows, DAY)
