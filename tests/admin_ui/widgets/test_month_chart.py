"""The chart of a month's usage."""

from __future__ import annotations

from admin_ui.widgets.month_chart import month_series
from models.database.base import SessionFactory, utc_now
from tests.support.factories.rows import add_key


def test_the_chart_has_each_day_of_the_month_until_now(database: SessionFactory) -> None:
    now = utc_now()
    with database.begin() as session:
        key = add_key(session)
        series = month_series(session, now, key_id=key.id)

    assert len(series["x"]) == now.day
    assert [len(one["values"]) for one in series["series"]] == [now.day, now.day]
    assert (series["kind"], series["step"]) == ("stacked", 24 * 3600)
