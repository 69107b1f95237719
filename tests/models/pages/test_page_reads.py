"""Lists of the pages: filters, pages in both directions, names and figures."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from core.ids import Prefix, format_id, new_id
from models.accounts.api_key import delete_key
from models.accounts.audit import record_audit
from models.accounts.user import Role, User
from models.batches.batch import BatchState
from models.database.base import utc_now
from models.database.pagination import Keyset
from models.jobs.job import Job, JobState
from models.monitoring.service_counts import count_accounts
from models.pages.activity import ActivityFilter, list_actions, list_activity
from models.pages.batches import BatchFilter, list_batch_page, list_lines
from models.pages.customers import CustomerSort, list_customers
from models.pages.dashboard import (
    Period,
    SeriesStep,
    read_last_hour,
    read_periods,
    read_series,
    read_totals,
)
from models.pages.jobs import (
    JobFilter,
    JobSource,
    count_jobs,
    count_newer,
    list_job_page,
)
from models.pages.keys import KeySort, KeyStatus, list_key_page
from models.pages.overview import read_overview
from tests.support.factories.batches import add_batch
from tests.support.factories.rows import add_job, add_key, add_user
from tests.support.factories.usage import add_usage

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def now() -> datetime:
    """The middle of a month, so that yesterday and an hour ago are in it."""
    return utc_now().replace(day=15, hour=12, minute=30)


def test_customers_are_sorted_by_every_column(session: Session, now: datetime) -> None:
    names = ["Carol", "alice", "Bob"]
    users = [add_user(session) for _ in names]
    for index, (user, name) in enumerate(zip(users, names, strict=True)):
        user.name, user.email = name, f"{name.lower()}@example.com"
        user.created_at = now - index * DAY
        for _ in range(index):
            add_usage(session, add_key(session, user), now - index * HOUR)
    add_usage(session, add_key(session, users[0]), now - 20 * DAY)
    session.flush()

    def order(sort: CustomerSort, is_descending: bool) -> list[str]:
        page = list_customers(session, now=now, sort=sort, is_descending=is_descending, limit=9)
        assert page.total == 3
        return [row.user.name for row in page.rows]

    expected = {
        CustomerSort.CREATED: ["Carol", "alice", "Bob"],
        CustomerSort.EMAIL: ["Carol", "Bob", "alice"],
        CustomerSort.NAME: ["Carol", "Bob", "alice"],
        CustomerSort.TOKENS: ["Bob", "alice", "Carol"],
    }
    for sort, descending in expected.items():
        assert order(sort, True) == descending
        assert order(sort, False) == descending[::-1]
    assert order(CustomerSort.KEYS, True)[0] == "Bob"
    (first,) = list_customers(session, now=now, sort=CustomerSort.TOKENS, limit=1).rows
    assert (first.keys, first.tokens) == (2, 30)


def test_customers_are_found_by_any_part_of_a_name_and_counted(
    session: Session, now: datetime
) -> None:
    for email in ("ada.b@one.example", "bob@two.example", "x_y@two.example"):
        add_user(session).email = email
    add_user(session, role=Role.ADMIN).email = "root@two.example"
    gone = add_user(session)
    gone.email, gone.deleted_at = "gone@two.example", now
    session.flush()

    def found(limit: int = 9, offset: int = 0, **wanted: Any) -> tuple[list[str], int]:
        page = list_customers(
            session, now=now, sort=CustomerSort.EMAIL, is_descending=False, offset=offset,
            limit=limit, **wanted,
        )  # fmt: skip
        return [row.user.email.split("@")[0] for row in page.rows], page.total

    assert found(search="TWO.ex") == (["bob", "root", "x_y"], 3)
    assert found(search="a.b") == (["ada.b"], 1)
    assert found(search="_") == (["x_y"], 1)
    assert found(role=Role.ADMIN) == (["root"], 1)
    assert found(limit=2, offset=2) == (["root", "x_y"], 4)
    assert found(limit=2, offset=9) == ([], 4)


def test_keys_are_filtered_found_and_sorted(session: Session, now: datetime) -> None:
    user = add_user(session)
    user.email = "owner@example.com"
    keys = [add_key(session, user) for _ in range(4)]
    active, inactive, expired, deleted = keys
    for name, key in zip(("main", "old", "trial", "gone"), keys, strict=True):
        key.name = name
    inactive.is_active, expired.expires_at, deleted.deleted_at = False, now, now
    active.last_used_at = now
    add_usage(session, active, now)
    other = add_key(session)
    session.flush()

    def found(user_id: UUID | None = user.id, **wanted: Any) -> list[str]:
        page = list_key_page(
            session,
            user_id=user_id,
            now=now,
            **{"sort": KeySort.NAME, "is_descending": False, "limit": 9, **wanted},
        )
        assert page.total == len(page.rows)
        return [row.key.name for row in page.rows]

    assert found() == ["main", "old", "trial"]
    assert {status: found(status=status) for status in KeyStatus} == {
        KeyStatus.ACTIVE: ["main"],
        KeyStatus.INACTIVE: ["old"],
        KeyStatus.EXPIRED: ["trial"],
        KeyStatus.SUSPENDED: [],
    }
    user.is_active = False
    session.flush()
    assert {status: len(found(status=status)) for status in KeyStatus} == {
        **dict.fromkeys(KeyStatus, 0),
        KeyStatus.SUSPENDED: 3,
    }
    user.is_active = True
    session.flush()
    assert found(None, search="OWNER@") == ["main", "old", "trial"]
    assert found(None, search="ria") == ["trial"]
    assert found(None, search=f"bc_{other.public_id}_abcdef") == ["key"]
    assert found(None, search=format_id(Prefix.KEY, active.id)) == ["main"]
    assert found(user.id, search=other.public_id) == []
    for sort in KeySort:
        assert sorted(found(sort=sort)) == ["main", "old", "trial"]
    for sort in (KeySort.TOKENS, KeySort.LAST_USED):
        assert found(sort=sort, is_descending=True)[0] == "main"
    first = list_key_page(session, user_id=user.id, now=now, sort=KeySort.TOKENS, limit=1)
    assert (first.total, first.rows[0].tokens, first.rows[0].owner_email) == (
        3,
        15,
        "owner@example.com",
    )


def list_ids(session: Session, batch_id: UUID) -> list[UUID]:
    return [row.id for row in list_lines(session, batch_id, limit=9).rows]


def test_jobs_are_paged_both_ways_without_a_gap(session: Session) -> None:
    key = add_key(session)
    jobs = [add_job(session, key).id for _ in range(7)]

    def page(**mark: UUID) -> Keyset[Any]:
        return list_job_page(session, JobFilter(), limit=3, **mark)

    newest = page()
    middle = page(after=newest.rows[-1].job.id)
    last = page(after=middle.rows[-1].job.id)
    seen = [row.job.id for part in (newest, middle, last) for row in part.rows]

    assert seen == jobs[::-1]
    marks = [(part.has_before, part.has_after) for part in (newest, middle, last)]
    assert marks == [(False, True), (True, True), (True, False)]
    previous = page(before=last.rows[0].job.id)
    assert [row.job.id for row in previous.rows] == jobs[1:4][::-1]
    assert (previous.has_before, previous.has_after) == (True, True)
    back = page(before=middle.rows[0].job.id)
    assert [row.job.id for row in back.rows] == jobs[4:][::-1]
    assert (back.has_before, back.has_after) == (False, True)


def test_jobs_are_filtered_by_every_field(session: Session, now: datetime) -> None:
    mine = add_key(session)
    batch = add_batch(session, mine, lines=2)
    jobs = {
        "plain": add_job(session, mine),
        "failed": add_job(session, mine, state=JobState.FAILED, finished_at=now),
        "other": add_job(session),
    }
    lines = list_ids(session, batch.id)
    names: dict[UUID, str] = {job.id: name for name, job in jobs.items()}
    names |= {line: f"line {n}" for n, line in enumerate(lines, start=1)}

    def found(**wanted: Any) -> set[str]:
        page = list_job_page(session, JobFilter(**wanted), limit=99)
        return {names[row.job.id] for row in page.rows}

    user = {"user_id": mine.user_id}
    api, in_batches = {"source": JobSource.API}, {"source": JobSource.BATCH}
    bulk = {"line 1", "line 2"}
    assert found() == set(jobs) | bulk
    assert found(**api) == set(jobs)
    assert found(**user) == found(key_id=mine.id) == {"plain", "failed"} | bulk
    assert found(**user, **api) == found(key_id=mine.id, **api) == {"plain", "failed"}
    assert found(state=JobState.FAILED) == found(**user, state=JobState.FAILED) == {"failed"}
    assert found(state=JobState.QUEUED) == {"plain", "other"}
    assert found(**in_batches) == found(**user, **in_batches) == bulk
    assert found(batch_id=batch.id) == found(key_id=mine.id, **in_batches) == bulk
    assert found(user_id=jobs["other"].user_id, **in_batches) == set()
    soon = utc_now() + DAY
    assert found(since=soon) == found(until=soon - 2 * DAY) == set()
    assert found(since=soon - 2 * DAY, until=soon) == set(jobs) | bulk
    session.get_one(Job, lines[0]).state = JobState.FAILED
    session.flush()
    for owner_filter in ({}, user, {"key_id": mine.id}):
        failed = {**owner_filter, "state": JobState.FAILED}
        assert found(**failed) == {"failed", "line 1"}
        assert found(**failed, **in_batches) == {"line 1"}


def test_jobs_of_both_sources_are_paged_both_ways_without_a_gap(session: Session) -> None:
    key = add_key(session)
    made = []
    for _ in range(3):
        made += [add_job(session, key).id, *list_ids(session, add_batch(session, key, lines=2).id)]
    wanted = JobFilter(user_id=key.user_id)

    down, after = [], None
    while True:
        page = list_job_page(session, wanted, limit=2, after=after)
        down += [row.job.id for row in page.rows]
        if not page.has_after:
            break
        after = down[-1]
    up, before = [], made[0]
    while True:
        page = list_job_page(session, wanted, limit=2, before=before)
        up = [row.job.id for row in page.rows] + up
        if not page.has_before:
            break
        before = up[0]

    assert down == sorted(made, reverse=True)
    assert [*up, made[0]] == down
    assert count_newer(session, wanted, made[0], most=99) == len(made) - 1
    assert count_newer(session, wanted, made[0], most=4) == 4


def test_jobs_are_counted_by_their_states(session: Session) -> None:
    key = add_key(session)
    add_batch(session, key, lines=3)
    for state in (JobState.QUEUED, JobState.RUNNING, JobState.FAILED, JobState.FAILED):
        add_job(session, key, state=state)
    old = new_id()
    add_job(session, key, id=UUID(int=old.int - (3 * 86_400_000 << 80)), state=JobState.FAILED)
    add_job(session, state=JobState.SUCCEEDED)

    everyone, mine = (count_jobs(session, utc_now(), user_id=u) for u in (None, key.user_id))

    assert (everyone.queued, everyone.running, everyone.held) == (1, 1, 3)
    assert everyone.ended == {
        JobState.SUCCEEDED: 1,
        JobState.FAILED: 2,
        JobState.CANCELLED: 0,
        JobState.EXPIRED: 0,
    }
    assert mine.ended[JobState.SUCCEEDED] == 0
    assert (mine.queued, mine.running, mine.held) == (1, 1, 3)


def test_batches_show_their_owner_progress_and_lines(session: Session) -> None:
    batch = add_batch(session, lines=6, failed=2, state=BatchState.RUNNING)
    add_batch(session, state=BatchState.COMPLETED, succeeded=1, finished_at=utc_now())
    lines = session.query(Job).filter_by(batch_id=batch.id).order_by(Job.line).all()
    for line in (lines[1], lines[4]):
        line.state = JobState.FAILED
    lines[0].state, lines[0].is_held = JobState.RUNNING, False
    session.flush()

    page = list_batch_page(session, BatchFilter(state=BatchState.RUNNING), limit=9)
    (listed,) = page.rows

    assert (listed.batch.id, listed.key_name) == (batch.id, "key")
    assert (listed.running, listed.queued, listed.progress) == (1, 3, 2 / 6)
    assert len(list_batch_page(session, BatchFilter(), limit=9).rows) == 2
    assert len(list_batch_page(session, BatchFilter(batch.user_id), limit=9).rows) == 1
    assert list_batch_page(session, BatchFilter(key_id=new_id()), limit=9).rows == []
    second = list_lines(session, batch.id, after=2, limit=2)
    assert [job.line for job in second.rows] == [3, 4]
    assert [j.line for j in list_lines(session, batch.id, before=3, limit=9).rows] == [1, 2]
    failed = list_lines(session, batch.id, states=[JobState.FAILED], after=2, limit=9)
    assert [job.line for job in failed.rows] == [5]


def test_activity_is_filtered_by_kind_and_address_and_paged_both_ways(session: Session) -> None:
    actor = add_user(session)
    for n, action in enumerate(["key.create", "user.create", "key.delete", "keyring.open"] * 2):
        record_audit(
            session, action=action, actor_id=actor.id if n < 4 else None, target_id=None,
            address=f"192.0.2.{n}",
        )  # fmt: skip
        session.flush()

    def found(limit: int = 99, mark: dict[str, UUID] | None = None, **wanted: Any) -> list[str]:
        page = list_activity(session, ActivityFilter(**wanted), limit=limit, **(mark or {}))
        return [f"{row.entry.action} {row.entry.address[-1]}" for row in page.rows]

    assert list_actions(session) == ["key.create", "key.delete", "keyring.open", "user.create"]
    keys = ["key.delete 6", "key.create 4", "key.delete 2", "key.create 0"]
    assert found(action_group="key.") == keys
    assert found(action_group="key.", actor_id=actor.id) == keys[2:]
    assert found(action="user.create") == ["user.create 5", "user.create 1"]
    assert found(action_group="none.") == []
    assert found(address="192.0.2.3") == ["keyring.open 3"]
    first = list_activity(session, ActivityFilter(action_group="key."), limit=2)
    assert (first.has_before, first.has_after) == (False, True)
    assert first.rows[0].actor_email is None
    rest = list_activity(
        session, ActivityFilter(action_group="key."), after=first.rows[-1].id, limit=2
    )
    assert rest.rows[0].actor_email == actor.email
    assert found(2, {"before": rest.rows[0].id}, action_group="key.") == keys[:2]
    assert found(action_group="key.", since=utc_now() + HOUR) == []
    assert len(found(until=utc_now() + HOUR)) == 8


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
        Period.YESTERDAY: 2,
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
    assert (everyone.whole.requests, everyone.whole.failed, everyone.success_rate) == (4, 1, 0.75)
    assert (everyone.minutes[-1].p50_ms, everyone.minutes[-1].p95_ms) == (20, 400)
    assert [m.requests for m in everyone.minutes if m.requests] == [1, 3]
    assert (len(mine.minutes), mine.whole.requests, mine.whole.failed) == (60, 3, 0)
    assert read_last_hour(session, now + DAY).success_rate is None
