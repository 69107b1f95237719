"""Lists of jobs: filters, pages in both directions, and counts."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from models.database.base import utc_now
from models.database.pagination import Keyset
from models.jobs.job import Job, JobState
from models.pages.batches import list_lines
from models.pages.jobs import JobFilter, JobSource, count_newer, count_open_jobs, list_job_page
from tests.support.factories.batches import add_batch
from tests.support.factories.rows import add_job, add_key

DAY = timedelta(days=1)


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


def test_open_jobs_are_counted_by_their_states(session: Session) -> None:
    key = add_key(session)
    add_batch(session, key, lines=3)
    for state in (JobState.QUEUED, JobState.RUNNING, JobState.FAILED):
        add_job(session, key, state=state)
    add_job(session, state=JobState.RUNNING)

    everyone, mine = (count_open_jobs(session, user_id=u) for u in (None, key.user_id))

    assert (everyone.queued, everyone.running, everyone.held) == (1, 2, 3)
    assert (mine.queued, mine.running, mine.held) == (1, 1, 3)
