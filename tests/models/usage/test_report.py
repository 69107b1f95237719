from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from core.histogram import bucket_of
from models.accounts.api_key import ApiKey
from models.jobs.job import JobState
from models.usage.report import UsageGroup, UsageScope, add_totals, list_usage, sum_usage
from models.usage.usage import record_usages
from tests.support.factories.rows import add_job, add_key

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ALL = UsageScope(NOON - DAY, NOON + 30 * DAY)


def use(
    session: Session,
    key: ApiKey,
    at: datetime = NOON,
    *,
    ms: int = 100,
    state: JobState = JobState.SUCCEEDED,
    model: str = "m",
) -> None:
    job = add_job(
        session,
        key,
        state=state,
        created_at=at - timedelta(milliseconds=ms),
        started_at=at,
        finished_at=at,
        prompt_tokens=10,
        completion_tokens=5,
        cached_tokens=2,
    )
    job.model = model
    record_usages(session, [job])


def test_groups_have_their_sums_rates_and_times(session: Session) -> None:
    key = add_key(session)
    for ms in range(1, 20):
        use(session, key, ms=ms)
    use(session, key, ms=1000, state=JobState.FAILED)

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
        use(session, first, at, ms=7)
        use(session, second, at, ms=3000, model="other")

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
        use(session, add_key(session), NOON + n * DAY, model=f"m{n}")

    whole = list_usage(session, ALL, by, after=None, limit=99)
    paged, after = [], None
    while page := list_usage(session, ALL, by, after=after, limit=2):
        paged += page
        after = page[-1].group

    assert len(whole) == 5
    assert paged == whole


def test_only_what_is_wanted_is_counted(session: Session) -> None:
    mine, other = add_key(session), add_key(session)
    use(session, mine)
    use(session, mine, model="other")
    use(session, other)
    use(session, mine, NOON + 2 * HOUR)

    def requests(since: datetime = NOON, until: datetime = NOON + HOUR, **wanted: object) -> int:
        return sum_usage(session, UsageScope(since, until, **wanted)).requests  # type: ignore[arg-type]

    assert requests() == 3
    assert requests(user_id=mine.user_id) == 2
    assert requests(key_id=other.id) == 1
    assert requests(model="other") == 1
    assert requests(user_id=other.user_id, key_id=mine.id) == 0
    assert requests(until=NOON + 3 * HOUR) == 4
    assert requests(since=NOON + HOUR) == 0


def test_where_nothing_was_used_there_is_nothing(session: Session) -> None:
    assert list_usage(session, ALL, UsageGroup.DAY, after=None, limit=9) == []
    nothing = sum_usage(session, ALL)
    assert (nothing.requests, nothing.success_rate, nothing.mean_ms, nothing.p95_ms) == (
        0,
        None,
        None,
        None,
    )
