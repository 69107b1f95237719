"""Closed sums equal those of the hours for any scope, also when past hours get more rows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from models.accounts.api_key import ApiKey
from models.database.base import SessionFactory, database_now, utc_now
from models.execution.completion import record_ends
from models.jobs.job import JobState
from models.jobs.outcome import JobOutcome
from models.jobs.transitions import finish_job
from models.maintenance.rollup_consistency import compare_closed
from models.usage.report import (
    UsageGroup,
    UsageScope,
    UsageTotals,
    list_usage,
    page_usage,
    sum_usage,
    sum_usage_by_name,
)
from models.usage.rollup_jobs import GRACE, reopen_usage, roll_up_usage
from models.usage.rollups import closed_until
from models.usage.usage import Usage
from tests.support.factories.rows import add_job, add_key, add_user
from tests.support.factories.usage import add_usage, add_usages, used_job

BEGIN = datetime(2026, 8, 29, 5, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
HOURS = 70 * 24
NOW = BEGIN + HOURS * HOUR


def close_all(session: Session, now: datetime = NOW) -> int:
    steps = 0
    while roll_up_usage(session, now=now):
        steps += 1
    return steps


def reports(session: Session, wanted: UsageScope) -> list[object]:
    """Return every report of a scope."""
    found: list[object] = [sum_usage(session, wanted)]
    for by in UsageGroup:
        rows = list_usage(session, wanted, by, after=None, limit=5000)
        found += [rows, page_usage(session, wanted, by, limit=7).rows]
    return found


@pytest.fixture
def used(session: Session) -> Iterator[tuple[Session, list[ApiKey]]]:
    """Four keys of three users with usage in random hours of ten weeks."""
    users = [add_user(session) for _ in range(3)]
    keys = [add_key(session, users[n % 3]) for n in range(4)]
    random = Random(7)
    jobs = []
    for _ in range(400):
        at = BEGIN + random.randrange(HOURS) * HOUR + random.randrange(3600) * timedelta(seconds=1)
        ms = random.choice([0, 3, 50, 900, 70_000])
        jobs.append(used_job(random.choice(keys), at, ms=ms, model=random.choice(["m", "old"])))
    add_usages(session, jobs)
    yield session, keys


def test_a_report_over_closed_days_equals_that_of_the_hours(
    used: tuple[Session, list[ApiKey]],
) -> None:
    session, keys = used
    filters = [{}, {"user_id": keys[0].user_id}, {"key_id": keys[1].id}, {"model": "old"}]

    @settings(max_examples=25)
    @given(
        st.integers(0, HOURS),
        st.integers(1, HOURS),
        st.integers(0, HOURS // 24 + 3),
        st.integers(0, 23),
        st.sampled_from(filters),
    )
    def compare(
        first: int, length: int, days: int, hour: int, scope_filter: dict[str, object]
    ) -> None:
        since = BEGIN + first * HOUR
        wanted = UsageScope(since, since + length * HOUR, **scope_filter)  # type: ignore[arg-type]
        now = BEGIN.replace(hour=hour) + days * DAY
        session.execute(text("delete from usage_closing"))
        expected = reports(session, wanted)
        for table in ("daily", "monthly", "total_hourly", "total_daily"):
            session.execute(text(f"delete from usage_{table}"))
        close_all(session, now)

        assert reports(session, wanted) == expected

    compare()


def test_an_hour_is_closed_once_after_its_grace(
    used: tuple[Session, list[ApiKey]],
) -> None:
    session, _ = used

    assert close_all(session, NOW) > 60
    assert closed_until(session) == NOW - HOUR
    assert close_all(session, NOW + GRACE - timedelta(seconds=1)) == 0
    assert close_all(session, NOW + GRACE) == 1
    assert closed_until(session) == NOW
    assert list(compare_closed(session)) == []


def test_without_usage_nothing_is_closed(session: Session) -> None:
    assert not roll_up_usage(session)
    assert closed_until(session) is None


@pytest.mark.parametrize("ago", [2 * HOUR, 30 * HOUR, 3 * DAY, 45 * DAY, 80 * DAY])
def test_rows_of_a_closed_hour_are_counted_at_once_and_reclosed(
    used: tuple[Session, list[ApiKey]], ago: timedelta
) -> None:
    session, keys = used
    everything = UsageScope(BEGIN - 90 * DAY, NOW + DAY)
    close_all(session)
    before = reports(session, everything)[0]
    assert isinstance(before, UsageTotals)

    reopen_usage(session, NOW - ago)
    add_usage(session, keys[2], NOW - ago, ms=4)
    session.flush()
    late = reports(session, everything)
    close_all(session)

    assert reports(session, everything) == late
    assert isinstance(late[0], UsageTotals)
    assert late[0].requests == before.requests + 1
    assert list(compare_closed(session)) == []
    assert closed_until(session) == NOW - HOUR


def test_several_scopes_are_summed_together(used: tuple[Session, list[ApiKey]]) -> None:
    session, keys = used
    close_all(session)
    times = {
        "all": UsageScope(BEGIN, NOW),
        "none": UsageScope(NOW, NOW),
        "before": UsageScope(BEGIN - DAY, BEGIN),
        "one": UsageScope(BEGIN + 30 * HOUR, NOW - DAY, user_id=keys[0].user_id),
    }

    assert sum_usage_by_name(session, times) == {
        name: sum_usage(session, wanted) for name, wanted in times.items()
    }


def test_a_delayed_end_is_counted_in_an_open_hour(session: Session) -> None:
    began = utc_now() - 5 * HOUR
    dates = {"created_at": began, "started_at": began}
    job = add_job(session, state=JobState.RUNNING, attempt=1, **dates)
    add_usage(session, session.get_one(ApiKey, job.api_key_id), began)
    close_all(session, database_now(session))
    closed = closed_until(session)

    outcome = JobOutcome(state=JobState.SUCCEEDED, completion_tokens=1)
    ended = finish_job(session, job.id, attempt=1, outcome=outcome)
    assert ended is not None
    record_ends(session, [ended])

    (dated,) = session.scalars(select(Usage.created_at).where(Usage.job_id == job.id))
    assert closed is not None and dated >= closed
    assert list(compare_closed(session)) == []


def test_a_closing_waits_for_rows_of_past_hours_and_counts_them(database: SessionFactory) -> None:
    hour = utc_now().replace(minute=0, second=0, microsecond=0) - 5 * HOUR
    with database.begin() as session:
        key = add_key(session)
        add_usage(session, key, hour)
        close_all(session, utc_now())
        assert closed_until(session) is not None
        reopen_usage(session, hour)

    def close() -> None:
        with database.begin() as closing:
            close_all(closing, utc_now())

    closer = threading.Thread(target=close)
    with database.begin() as late:
        reopen_usage(late, hour + HOUR)
        add_usage(late, key, hour + HOUR)
        closer.start()
        with database() as other:
            waits = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            deadline = utc_now() + timedelta(seconds=20)
            while not other.scalar(text(waits)) and utc_now() < deadline:
                other.rollback()
            assert other.scalar(text(waits)) == 1
    closer.join(timeout=20)

    with database() as session:
        assert list(compare_closed(session)) == []
        assert sum_usage(session, UsageScope(hour, hour + 6 * HOUR)).requests == 2


@pytest.mark.parametrize("table", ["daily", "monthly", "total_hourly", "total_daily"])
def test_the_check_reports_a_wrong_closed_roll_up(
    used: tuple[Session, list[ApiKey]], table: str
) -> None:
    session, _ = used
    close_all(session)

    session.execute(
        text(
            f"update usage_{table} set requests = requests + 1"
            f" where begins_at = (select min(begins_at) from usage_{table})"
        )
    )

    problems = [difference.problem for difference in compare_closed(session)]
    assert problems
    assert all("requests" in problem for problem in problems)
