"""The roll-up closes past days in bounded steps, and hours soon after their end."""

from __future__ import annotations

from datetime import timedelta

from models.database.base import SessionFactory, utc_now
from models.usage.report import UsageScope, sum_usage
from models.usage.rollups import closed_until
from tests.support.factories.rows import add_key
from tests.support.factories.usage import add_usage
from worker.maintenance.usage_rollup import MAX_STEPS, UsageRollup

DAY = timedelta(days=1)


def test_each_pass_closes_a_few_of_the_past_days(database: SessionFactory) -> None:
    now = utc_now()
    begin = now.replace(hour=0, minute=0, second=0, microsecond=0) - (MAX_STEPS + 2) * DAY
    with database.begin() as session:
        add_usage(session, add_key(session), begin)
    rollup = UsageRollup(sessions=database)

    rollup.roll_up()
    with database() as session:
        first = closed_until(session)
    rollup.roll_up()

    assert first == begin + MAX_STEPS * DAY
    with database() as session:
        last = closed_until(session)
        assert last is not None
        assert last > now - timedelta(hours=2)
        assert sum_usage(session, UsageScope(begin, now)).requests == 1


def test_a_call_before_the_next_pass_is_due_does_nothing(database: SessionFactory) -> None:
    rollup = UsageRollup(sessions=database)
    rollup.roll_up()
    with database.begin() as session:
        add_usage(session, add_key(session), utc_now() - 2 * DAY)

    rollup.roll_up()

    with database() as session:
        assert closed_until(session) is None
