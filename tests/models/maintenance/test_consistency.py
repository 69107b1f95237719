from __future__ import annotations

from datetime import datetime

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from models.database.base import SessionFactory
from models.jobs.job import Job, JobState
from models.maintenance.consistency import begin_check, compare_jobs
from models.maintenance.retention import delete_jobs
from models.maintenance.rollup_consistency import compare_roll_ups
from tests.support.factories.rows import add_job, add_key
from tests.support.factories.usage import HOUR, NOON, add_usage


def differences(
    session: Session, since: datetime | None = None, until: datetime | None = None
) -> list[str]:
    session.flush()
    found = [
        *compare_jobs(session, since=since, until=until),
        *compare_roll_ups(session, since=since, until=until),
    ]
    return [difference.problem for difference in found]


@pytest.fixture
def used(session: Session) -> Session:
    """A session with consistent rows: jobs of each kind, in two hours."""
    key = add_key(session)
    for at in (NOON, NOON + HOUR):
        for ms in (5, 5, 70_000):
            add_usage(session, key, at, ms=ms)
        add_usage(session, key, at, state=JobState.CANCELLED)
    add_job(session, key)
    add_job(session, key, state=JobState.RUNNING, started_at=NOON)
    add_job(session, key, state=JobState.EXPIRED, finished_at=NOON)
    add_job(session, key, state=JobState.FAILED, finished_at=NOON)
    session.flush()
    return session


def test_consistent_rows_are_not_reported(used: Session) -> None:
    assert differences(used) == []


def test_usage_stays_consistent_after_retention_deletes_its_job(used: Session) -> None:
    before = NOON + 2 * HOUR

    while delete_jobs(used, before):
        pass

    assert used.scalar(text("select count(*) from jobs")) == 2  # one waits, one runs
    assert differences(used) == []


def test_a_job_that_is_missing_without_retention_is_reported(used: Session) -> None:
    delete_jobs(used, NOON)
    used.execute(text("delete from jobs where finished_at = :at"), {"at": NOON + HOUR})

    assert differences(used) == ["is gone, and retention did not delete it"] * 4


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("state = 'failed'", "usage has state failed, job succeeded"),
        ("prompt_tokens = prompt_tokens + 1", "usage has prompt tokens 11, job 10"),
        ("completion_tokens = 0", "usage has completion tokens 0, job 5"),
        ("cached_tokens = 3", "usage has cached tokens 3, job 2"),
        ("model = 'x'", "usage has another model"),
        ("duration_ms = 9", "usage has another duration"),
        ("created_at = created_at + interval '1 second'", "another time than the end of the job"),
    ],
)
def test_a_row_that_differs_from_its_job_is_reported(
    used: Session, change: str, problem: str
) -> None:
    used.execute(
        text(
            f"update usage set {change} where job_id = (select min(job_id::text)::uuid from usage"
            " where state = 'succeeded')"
        )
    )

    assert problem in differences(used)[0]


def test_a_job_without_its_row_is_reported(used: Session) -> None:
    used.execute(
        text("delete from usage where duration_ms = 70000 and created_at = :at"), {"at": NOON}
    )

    jobs, roll_up = differences(used)

    assert jobs == "has no usage, although it had begun"
    assert roll_up == (
        "the roll-up has requests 4, rows 3; succeeded 3, rows 2; prompt tokens 40, rows 30; "
        "completion tokens 20, rows 15; cached tokens 8, rows 6; milliseconds 70110, rows 110; "
        "other counts of durations"
    )


@pytest.mark.parametrize(
    ("job", "problem"),
    [
        ({"state": JobState.RUNNING, "finished_at": None}, "has usage, although it has not ended"),
        ({"started_at": None}, "has usage, although it never began"),
    ],
)
def test_a_superfluous_row_is_reported(used: Session, job: dict[str, object], problem: str) -> None:
    first = used.query(Job).filter_by(state=JobState.SUCCEEDED).order_by(Job.id).first()
    assert first is not None
    for name, value in job.items():
        setattr(first, name, value)

    assert differences(used) == [problem]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("requests = 5", "the roll-up has requests 5, rows 4"),
        ("succeeded = 4", "the roll-up has succeeded 4, rows 3"),
        ("prompt_tokens = 0", "the roll-up has prompt tokens 0, rows 40"),
        ("duration_ms = duration_ms - 1", "the roll-up has milliseconds 70109, rows 70110"),
        ("duration_counts[5] = 3", "the roll-up has other counts of durations"),
        ("duration_counts = '{}'", "the roll-up has other counts of durations"),
        ("hour = hour - interval '9 hours'", "a roll-up without rows"),
    ],
)
def test_a_roll_up_that_is_not_the_sum_is_reported(
    used: Session, change: str, problem: str
) -> None:
    used.execute(text(f"update usage_hourly set {change} where hour = :hour"), {"hour": NOON})

    assert problem in differences(used)


def test_rows_without_a_roll_up_are_reported(used: Session) -> None:
    used.execute(text("delete from usage_hourly where hour = :hour"), {"hour": NOON})

    assert differences(used) == ["rows without a roll-up"]


def test_only_the_given_time_is_checked(used: Session) -> None:
    used.execute(text("delete from usage where created_at = :at"), {"at": NOON})

    assert len(differences(used)) == 5
    assert len(differences(used, since=NOON, until=NOON + HOUR)) == 5
    assert differences(used, since=NOON + HOUR) == []
    assert differences(used, until=NOON) == []


def test_a_check_reads_one_snapshot_and_times_out(database: SessionFactory) -> None:
    with database() as session:
        begin_check(session, timeout_seconds=0.05)
        assert differences(session) == []
        with database.begin() as other:
            add_usage(other, add_key(other))
            other.execute(text("delete from usage"))
        assert differences(session) == []

        with pytest.raises(OperationalError, match="statement timeout"):
            session.execute(text("select pg_sleep(5)"))
        session.rollback()
        begin_check(session, timeout_seconds=5)
        with pytest.raises(DBAPIError, match="read-only"):
            session.execute(text("delete from usage"))
