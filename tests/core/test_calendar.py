from datetime import UTC, datetime

import pytest

from core.calendar import day_of, hour_of, month_of, next_month

MOMENT = datetime(2028, 2, 29, 23, 59, 59, 999_999, UTC)


def test_periods_begin_at_their_first_moment() -> None:
    assert hour_of(MOMENT) == datetime(2028, 2, 29, 23, tzinfo=UTC)
    assert day_of(MOMENT) == datetime(2028, 2, 29, tzinfo=UTC)
    assert month_of(MOMENT) == datetime(2028, 2, 1, tzinfo=UTC)


def test_the_first_moment_of_a_period_is_in_it() -> None:
    first = datetime(2028, 2, 1, tzinfo=UTC)

    assert hour_of(first) == day_of(first) == month_of(first) == first


@pytest.mark.parametrize("day", (1, 29))
def test_the_next_month_follows_from_any_day_of_a_month(day: int) -> None:
    assert next_month(MOMENT.replace(day=day)) == datetime(2028, 3, 1, tzinfo=UTC)


def test_january_follows_december() -> None:
    assert next_month(datetime(2026, 12, 31, tzinfo=UTC)) == datetime(2027, 1, 1, tzinfo=UTC)
