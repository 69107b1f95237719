from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg2
import pytest
from sqlalchemy import select, text

from core.config.settings import Settings
from core.ids import new_id
from core.security.api_key_secret import KeySecret
from models.accounts.api_key import ApiKey, create_key
from models.accounts.key_cache import KeyCache, RequestKey
from models.accounts.user import User
from models.database.base import SessionFactory, database_now, open_database, utc_now
from models.database.prepared import Statements
from models.execution.completion import cancel_jobs
from models.jobs.inserts import LARGE_CHARACTERS, JobInserts
from models.jobs.job import Job, new_job, values_of
from models.jobs.transitions import insert_cancelled_jobs
from tests.support.factories.rows import add_user
from tests.support.polling import wait_until


@pytest.fixture
def statements(base_settings: Settings) -> Iterator[Statements]:
    engine = open_database(base_settings, is_autocommit=True)
    yield Statements(engine, max_idle=1)
    engine.dispose()


@pytest.fixture
def inserts(statements: Statements) -> JobInserts:
    return JobInserts(statements, timeout_seconds=5)


@pytest.fixture
def secret(database: SessionFactory) -> KeySecret:
    with database.begin() as session:
        user = add_user(session)
        key, secret = create_key(session, user_id=user.id, name="k", rate_limit=9)
        key.last_used_at = utc_now()
    return secret


@pytest.fixture
def key(statements: Statements, secret: KeySecret) -> RequestKey:
    """A cached key."""
    keys = KeyCache(statements)
    assert keys.find(secret) is not None
    cached = keys.cached(secret)
    assert cached is not None
    return cached


def make(key: RequestKey, **values: Any) -> Job:
    now = utc_now()
    return new_job(
        **{
            "id": new_id(),
            "user_id": key.user_id,
            "api_key_id": key.id,
            "queue": "interactive",
            "state": "queued",
            "priority": 3,
            "model": "a 'model'",
            "request": {"prompt": 'x "y" \\ ünï\n', "maxTokens": 5, "metadata": {"a": "b"}},
            "prompt_tokens": 7,
            "completion_tokens": 0,
            "cached_tokens": 0,
            "attempt": 0,
            "charged_tokens": 12,
            "is_streamed": True,
            "request_id": "req_1",
            "created_at": now,
            "expires_at": now + timedelta(seconds=9),
            **values,
        }
    )


def found(database: SessionFactory) -> list[Job]:
    with database() as session:
        return list(session.scalars(select(Job).order_by(Job.id)))


@pytest.mark.parametrize("expires", [True, False], ids=["expires", "stays"])
def test_a_row_has_all_values_of_its_job(
    database: SessionFactory, inserts: JobInserts, key: RequestKey, expires: bool
) -> None:
    job = make(key) if expires else make(key, expires_at=None)

    assert inserts.insert(job, key)

    (row,) = found(database)
    assert {name: getattr(row, name) for name in values_of(job)} == values_of(job)


def test_a_row_is_dated_by_the_database(
    database: SessionFactory, inserts: JobInserts, key: RequestKey
) -> None:
    ahead = utc_now() + timedelta(hours=2)
    job = make(key, created_at=ahead, expires_at=ahead + timedelta(seconds=9))
    with database() as session:
        before = database_now(session)

    assert inserts.insert(job, key)

    (row,) = found(database)
    assert before <= row.created_at < before + timedelta(minutes=1)
    assert row.expires_at == row.created_at + timedelta(seconds=9)


@pytest.mark.parametrize(
    ("change", "is_good"),
    [
        ("limit", True),
        ("used", True),
        ("revoked", False),
        ("switched off", False),
        ("owner", False),
        ("suspended", False),
    ],
)
def test_no_job_is_inserted_under_a_cached_key_that_changed(
    database: SessionFactory, inserts: JobInserts, key: RequestKey, change: str, is_good: bool
) -> None:
    with database.begin() as session:
        row = session.get_one(ApiKey, key.id)
        if change == "limit":
            row.rate_limit += 1
        elif change == "revoked":
            row.deleted_at = utc_now()
        elif change == "used":
            row.last_used_at = utc_now()
        elif change == "switched off":
            row.is_active = False
        elif change == "suspended":
            session.get_one(User, key.user_id).is_active = False
        else:
            session.get_one(User, key.user_id).deleted_at = utc_now()

    assert not inserts.insert(make(key), key)
    assert found(database) == []
    assert inserts.insert(make(key), replace(key, is_cached=False)) is is_good


def test_a_group_of_jobs_is_added_together_and_a_faulty_one_fails_alone(
    database: SessionFactory, inserts: JobInserts, key: RequestKey
) -> None:
    gone = replace(key, version="3")
    good = [make(key) for _ in range(6)]
    with ThreadPoolExecutor(9) as pool:
        with database.begin() as session:
            session.execute(text("lock table jobs"))
            first = pool.submit(inserts.insert, good[0], key)
            wait_until(lambda: inserts._rows._has_leader and not inserts._rows._waiting, 20)
            rest = [pool.submit(inserts.insert, job, key) for job in good[1:]]
            changed = pool.submit(inserts.insert, make(key), gone)
            bad = pool.submit(inserts.insert, make(key, queue="no such"), key)
            wait_until(lambda: len(inserts._rows._waiting) == 7, 20)
        assert all(future.result(5) for future in [first, *rest])
        assert not changed.result(5)
        with pytest.raises(psycopg2.IntegrityError):
            bad.result(5)

    assert [job.id for job in found(database)] == sorted(job.id for job in good)


def test_a_large_job_delays_no_other(
    database: SessionFactory, inserts: JobInserts, key: RequestKey
) -> None:
    large = make(key, request={"prompt": "x" * LARGE_CHARACTERS})
    called: list[object] = []
    inserts._rows.call = called.append  # type: ignore[assignment, method-assign]

    assert inserts.insert(large, key)

    assert called == []
    assert [job.id for job in found(database)] == [large.id]


def test_a_job_cancelled_before_its_insert_is_not_inserted(
    database: SessionFactory, inserts: JobInserts, key: RequestKey
) -> None:
    job, other = make(key, created_at=utc_now() + timedelta(hours=2)), make(key)
    with database.begin() as session:
        (added,) = insert_cancelled_jobs(session, [job])
    assert (added.id, added.state) == (job.id, "cancelled")
    assert added.created_at == added.finished_at < utc_now() + timedelta(minutes=1)

    with pytest.raises(psycopg2.IntegrityError):
        inserts.insert(job, key)
    assert inserts.insert(other, key)

    assert [row.state for row in found(database)] == ["cancelled", "queued"]


def test_an_inserted_job_is_left_to_a_normal_cancel(
    database: SessionFactory, inserts: JobInserts, key: RequestKey
) -> None:
    job = make(key)
    assert inserts.insert(job, key)

    with database.begin() as session:
        assert insert_cancelled_jobs(session, [job]) == []
        assert [one.id for one in cancel_jobs(session, [job.id])] == [job.id]
