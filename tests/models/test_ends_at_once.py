"""Ends that are written by one statement are those that are written by several."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from core.settings import Settings
from models.base import SessionFactory, open_database, utc_now
from models.held_jobs import claim_jobs, finish_at_once, follows_only_usage
from models.job import Job, JobOutcome, JobState
from models.statements import Statements
from models.usage import Usage, UsageHourly
from models.usage_check import compare_jobs, compare_roll_ups
from tests.models.factories import add_job, add_key

LEASE = timedelta(seconds=30)


@pytest.fixture
def statements(base_settings: Settings) -> Iterator[Statements]:
    engine = open_database(base_settings, is_autocommit=True, plans_once=True)
    yield Statements(engine, keeps=1)
    engine.dispose()


def add_running(
    database: SessionFactory, statements: Statements, ages_ms: Sequence[int], *, models: int = 1
) -> list[Job]:
    """Add running jobs of one key that were made so long ago."""
    with database.begin() as session:
        key = add_key(session)
        jobs = [
            add_job(
                session,
                key,
                model=f"m{place % models}",
                created_at=utc_now() - timedelta(milliseconds=age),
            )
            for place, age in enumerate(ages_ms)
        ]
    claimed = claim_jobs(statements, [job.id for job in jobs], worker_id="w", lease=LEASE)
    assert len(claimed) == len(ages_ms)
    return claimed


def end(
    statements: Statements, jobs: Sequence[Job], state: JobState = JobState.SUCCEEDED
) -> list[Job]:
    outcome = JobOutcome(
        state,
        choices=[{"text": "é", "index": 0, "finish_reason": "stop"}],
        prompt_tokens=3,
        completion_tokens=4,
        cached_tokens=1,
        first_token=time.monotonic(),
    )
    return finish_at_once(statements, [(job, outcome) for job in jobs], worker_id="w")


def assert_exact(database: SessionFactory) -> None:
    with database() as session:
        assert list(compare_jobs(session, since=None, until=None)) == []
        assert list(compare_roll_ups(session, since=None, until=None)) == []


def test_a_group_ends_with_its_usage_and_its_sums(
    database: SessionFactory, statements: Statements
) -> None:
    jobs = add_running(database, statements, [5, 60_000, 5, 86_400_000, 900], models=2)
    more = add_running(database, statements, [1, 3_600_000])

    ended = [*end(statements, [*jobs[:3], more[0]]), *end(statements, [jobs[3]], JobState.FAILED)]
    ended += end(statements, [more[1], jobs[4]])

    assert {job.id for job in ended} == {job.id for job in [*jobs, *more]}
    with database() as session:
        for job in ended:
            row = session.get_one(Job, job.id)
            assert (row.state, row.choices) == (job.state, job.choices)
            assert (row.finished_at, row.first_token_at) == (job.finished_at, job.first_token_at)
            assert row.lease_expires_at is None
        assert len(session.scalars(select(UsageHourly)).all()) >= 3
    assert_exact(database)


def test_a_first_token_is_dated_by_the_clock_that_dates_the_end(
    database: SessionFactory, statements: Statements
) -> None:
    early, late, none = add_running(database, statements, [60_000, 60_000, 60_000])
    with database.begin() as session:
        begun = utc_now() - timedelta(seconds=30)
        session.execute(update(Job).where(Job.id == early.id).values(started_at=begun))
    now = time.monotonic()
    ages = {early.id: now - 2.5, late.id: now - 2.5, none.id: None}

    ends = [
        (job, JobOutcome(JobState.SUCCEEDED, choices=[], first_token=ages[job.id]))
        for job in (early, late, none)
    ]
    ended = {job.id: job for job in finish_at_once(statements, ends, worker_id="w")}
    elapsed = time.monotonic() - now

    finished, first = ended[early.id].finished_at, ended[early.id].first_token_at
    assert finished is not None and first is not None
    assert 2.0 < (finished - first).total_seconds() < 2.6 + elapsed
    # It cannot have come before its job began.
    assert ended[late.id].first_token_at == late.started_at
    assert ended[none.id].first_token_at is None


def test_ends_are_timed_by_the_database_and_none_comes_before_its_job(
    database: SessionFactory, statements: Statements
) -> None:
    (ahead,) = add_running(database, statements, [-3_600_000])
    (behind,) = add_running(database, statements, [3_600_000])

    ended = {job.id: job for job in end(statements, [ahead, behind])}

    assert ended[ahead.id].finished_at == ahead.created_at
    with database() as session:
        durations = {row.job_id: row.duration_ms for row in session.scalars(select(Usage))}
        assert durations[ahead.id] == 0
        assert 3_600_000 <= durations[behind.id] < 3_660_000
    assert_exact(database)


def test_what_is_not_this_attempts_any_more_does_not_end(
    database: SessionFactory, statements: Statements
) -> None:
    jobs = add_running(database, statements, [10, 10, 10, 10])
    with database.begin() as session:
        session.execute(update(Job).where(Job.id == jobs[0].id).values(attempt=2))
        session.execute(update(Job).where(Job.id == jobs[1].id).values(worker_id="other"))
        session.execute(
            update(Job).where(Job.id == jobs[2].id).values(cancel_requested_at=utc_now())
        )

    ended = end(statements, jobs)
    again = end(statements, jobs)

    assert {job.id for job in ended} == {jobs[2].id, jobs[3].id}
    assert {job.id for job in ended if job.cancel_requested_at is not None} == {jobs[2].id}
    assert again == []
    with database() as session:
        assert set(session.scalars(select(Usage.job_id))) == {jobs[2].id, jobs[3].id}
    assert_exact(database)


def test_groups_that_end_at_once_lose_nothing(
    database: SessionFactory, statements: Statements
) -> None:
    groups = [add_running(database, statements, range(12), models=3) for _ in range(4)]
    mixed = [[group[place] for group in groups] for place in range(12)]

    with ThreadPoolExecutor(4) as threads:
        ended = list(threads.map(lambda jobs: end(statements, jobs), mixed))

    assert [len(jobs) for jobs in ended] == [4] * 12
    assert_exact(database)


def test_a_plan_that_is_made_for_a_small_table_fits_a_large_one(
    database: SessionFactory, statements: Statements
) -> None:
    first, second = add_running(database, statements, [1, 1])
    end(statements, [first])
    statements.run("analyze jobs", ())
    end(statements, [second])

    for call in ("finish_jobs ('{}', '[]', 'w')", "claim_jobs ('{}', 'w', '1 s', 2, true)"):
        plan = "\n".join(line for (line,) in statements.run(f"explain execute {call}", ()))
        assert "Index Cond: (id = ANY ($1))" in plan
        assert "Seq Scan" not in plan
        assert "Nested Loop" not in plan


def test_only_ends_that_concern_nothing_else_are_written_so(database: SessionFactory) -> None:
    with database.begin() as session:
        plain = add_job(session)
        telling = add_job(session, request={"prompt": "x", "webhookUrl": "https://a.example"})

    assert follows_only_usage(plain)
    assert not follows_only_usage(telling)
