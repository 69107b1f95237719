from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy.orm import Session

from core.histogram import bucket_of
from models.jobs.job import JobState
from models.usage.report import UsageGroup, UsageScope, add_totals, list_usage, sum_usage
from tests.support.factories.rows import add_key
from tests.support.factories.usage import ALL, DAY, HOUR, NOON, add_usage


def test_groups_have_their_sums_rates_and_times(session: Session) -> None:
    key = add_key(session)
    for ms in range(1, 20):
        add_usage(session, key, ms=ms)
    add_usage(session, key, ms=1000, state=JobState.FAILED)

    (sums,) = list_usage(session, ALL, UsageGroup.KEY, after=None, limit=9)

    assert (sums.group, sums.name) == (key.id, "key")
    assert (sums.requests, sums.succeeded, sums.success_rate) == (20, 19, 0.95)
    assert (sums.prompt_tokens, sums.completion_tokens, sums.cached_tokens) == (200, 100, 40)
    assert sums.tokens == 300
    assert sums.mean_ms == (190 + 1000) / 20
    assert sums.p95_ms == pytest.approx(19, rel=0.05)
    assert sums.duration_counts == {bucket_of(ms): 1 for ms in [*range(1, 20), 1000]}
    totals = sum_usage(session, ALL)
    assert (totals.requests, totals.duration_counts) == (20, sums.duration_counts)


def test_every_grouping_adds_up_to_the_same(session: Session) -> None:
    first, second = add_key(session), add_key(session)
    for at in (NOON, NOON + HOUR, NOON + DAY):
        add_usage(session, first, at, ms=7)
        add_usage(session, second, at, ms=3000, model="other")

    groups = {by: list_usage(session, ALL, by, after=None, limit=99) for by in UsageGroup}

    assert {by: len(rows) for by, rows in groups.items()} == {
        UsageGroup.KEY: 2,
        UsageGroup.USER: 2,
        UsageGroup.MODEL: 2,
        UsageGroup.DAY: 2,
        UsageGroup.HOUR: 3,
    }
    for rows in groups.values():
        assert add_totals(rows) == sum_usage(session, ALL)
        assert sum(row.requests for row in rows) == 6
        assert sum(sum(row.duration_counts.values()) for row in rows) == 6
    assert [row.group for row in groups[UsageGroup.DAY]] == [
        datetime(2026, 11, 1, tzinfo=UTC),
        datetime(2026, 11, 2, tzinfo=UTC),
    ]


@pytest.mark.parametrize("by", UsageGroup)
def test_pages_follow_each_other_without_a_gap(session: Session, by: UsageGroup) -> None:
    for n in range(5):
        add_usage(session, add_key(session), NOON + n * DAY, model=f"m{n}")

    whole = list_usage(session, ALL, by, after=None, limit=99)
    paged, after = [], None
    while page := list_usage(session, ALL, by, after=after, limit=2):
        paged += page
        after = page[-1].group

    assert len(whole) == 5
    assert paged == whole


def test_only_usage_in_the_scope_is_counted(session: Session) -> None:
    mine, other = add_key(session), add_key(session)
    add_usage(session, mine)
    add_usage(session, mine, model="other")
    add_usage(session, other)
    add_usage(session, mine, NOON + 2 * HOUR)

    def requests(since: datetime = NOON, until: datetime = NOON + HOUR, **wanted: object) -> int:
        return sum_usage(session, UsageScope(since, until, **wanted)).requests  # type: ignore[arg-type]

    assert requests() == 3
    assert requests(user_id=mine.user_id) == 2
    assert requests(key_id=other.id) == 1
    assert requests(model="other") == 1
    assert requests(user_id=other.user_id, key_id=mine.id) == 0
    assert requests(until=NOON + 3 * HOUR) == 4
    assert requests(since=NOON + HOUR) == 0


def test_without_usage_a_report_is_empty(session: Session) -> None:
    assert list_usage(session, ALL, UsageGroup.DAY, after=None, limit=9) == []
    nothing = sum_usage(session, ALL)
    assert (nothing.requests, nothing.success_rate, nothing.mean_ms, nothing.p95_ms) == (
        0,
        None,
        None,
        None,
    )
