"""The figures of the dashboard: totals, periods, series and the last hour."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from models.accounts.api_key import delete_key
from models.accounts.user import User
from models.database.base import utc_now
from models.jobs.job import JobState
from models.monitoring.service_counts import count_accounts
from models.pages.dashboard import (
    Period,
    SeriesStep,
    read_last_hour,
    read_periods,
    read_series,
    read_totals,
)
from models.pages.keys import KeyStatus, list_key_page
from models.pages.overview import read_overview
from tests.support.factories.rows import add_key
from tests.support.factories.usage import add_usage

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def test_the_dashboard_counts_users_and_keys_and_recent_ones(
    session: Session, now: datetime
) -> None:
    first, second = add_key(session), add_key(session)
    off, expired, suspended = add_key(session), add_key(session), add_key(session)
    session.get_one(User, suspended.user_id).is_active = False
    first.last_used_at, second.last_used_at = now - HOUR, now - 2 * DAY
    off.is_active, expired.expires_at = False, now - HOUR
    session.flush()

    everyone, one = (read_totals(session, now, user_id=u) for u in (None, first.user_id))

    assert (everyone.users, everyone.recent_users) == (5, 1)
    assert (everyone.keys, everyone.active_keys, everyone.recent_keys) == (5, 2, 1)
    assert (one.users, one.recent_users, one.keys, one.recent_keys) == (1, 1, 1, 1)


def test_there_is_one_number_of_active_keys(session: Session) -> None:
    now = utc_now()
    _, off, expired, suspended, deleted = (add_key(session) for _ in range(5))
    off.is_active, expired.expires_at = False, now - HOUR
    session.get_one(User, suspended.user_id).is_active = False
    delete_key(session, deleted)
    session.flush()

    numbers = {
        read_totals(session, now).active_keys,
        read_overview(session, now).active_keys,
        count_accounts(session).active_keys,
        list_key_page(session, user_id=None, now=now, status=KeyStatus.ACTIVE, limit=9).total,
    }

    assert numbers == {1}


def test_the_dashboard_compares_periods_and_has_their_series(
    session: Session, now: datetime
) -> None:
    key, other = add_key(session), add_key(session)
    for at in (now, now - HOUR, now - DAY, now - DAY + 2 * HOUR, now - 40 * DAY):
        add_usage(session, key, at)
    add_usage(session, other, now, state=JobState.FAILED)
    session.flush()

    periods = read_periods(session, now)
    mine = read_periods(session, now, user_id=key.user_id)
    hours = read_series(session, now, SeriesStep.HOUR, count=24)
    days = read_series(session, now, SeriesStep.DAY, count=3, user_id=key.user_id)

    assert {name: sums.requests for name, sums in periods.items()} == {
        Period.TODAY: 3,
        Period.YESTERDAY_SO_FAR: 1,
        Period.MONTH: 5,
        Period.LAST_MONTH_SO_FAR: 1,
    }
    assert (periods[Period.TODAY].unsuccessful, mine[Period.TODAY].requests) == (1, 2)
    assert [sums.requests for sums in hours] == [0, 1] + [0] * 20 + [1, 2]
    assert [sums.group for sums in days] == [
        now.replace(hour=0, minute=0, second=0, microsecond=0) - n * DAY for n in (2, 1, 0)
    ]
    assert [sums.requests for sums in days] == [0, 2, 2]


def test_the_last_hour_is_reported_by_minute(session: Session, now: datetime) -> None:
    key = add_key(session)
    for ms in (10, 20, 400):
        add_usage(session, key, now - timedelta(seconds=5), ms=ms)
    add_usage(session, add_key(session), now - timedelta(minutes=30), state=JobState.FAILED)
    add_usage(session, key, now - 2 * HOUR)

    everyone, mine = (read_last_hour(session, now, user_id=u) for u in (None, key.user_id))

    assert (everyone.requests_per_minute, everyone.tokens_per_second) == (3, 45 / 60)
    assert (everyone.whole.requests, everyone.success_rate) == (4, 0.75)
    assert (everyone.minutes[-1].p50_ms, everyone.minutes[-1].p95_ms) == (20, 400)
    assert [m.requests for m in everyone.minutes if m.requests] == [1, 3]
    assert (len(mine.minutes), mine.whole.requests, mine.success_rate) == (60, 3, 1)
    assert read_last_hour(session, now + DAY).success_rate is None
