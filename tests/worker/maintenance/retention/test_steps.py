"""Retention deletes in small steps, which other transactions may interrupt."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.orm import Session

from core.config.settings import Settings
from models.accounts.api_key import ApiKey
from models.batches.batch import Batch
from models.database.base import SessionFactory, utc_now
from models.database.locks import ServiceLock, take_lock
from models.jobs.job import Job, JobState
from models.maintenance.retention import STEP, delete_jobs, delete_texts
from tests.support.factories.rows import add_job
from tests.support.worker.retention import (
    DAY,
    add_ended_batch,
    add_ended_job,
    count,
    differences,
    enforce,
)
from worker.maintenance.retention import Retention


def count_rows(database: SessionFactory, table: Any) -> int:
    with database() as session:
        return count(session, table)


def add_jobs(session: Session, key: ApiKey, rows: int) -> None:
    """Add jobs that ended 91 days ago."""
    at = utc_now() - 91 * DAY
    job = add_job(session, key, state=JobState.CANCELLED, created_at=at, finished_at=at)
    names = "user_id, api_key_id, queue, state, priority, model, request, prompt_tokens"
    names += ", completion_tokens, cached_tokens, attempt, request_id, created_at, finished_at"
    session.execute(
        text(
            f"insert into jobs (id, {names}) select gen_random_uuid(), {names}"
            " from jobs, generate_series(2, :rows) where id = :id"
        ),
        {"rows": rows, "id": job.id},
    )


def test_many_rows_are_deleted_in_small_transactions_and_passes(
    database: SessionFactory, base_settings: Settings, key: ApiKey
) -> None:
    with database.begin() as session:
        add_ended_batch(session, key, 91, lines=STEP + 10)
        rows = 2 * STEP + 20
        add_jobs(session, key, rows)
    deleted: list[int] = []

    def note(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "delete from jobs" in statement:
            deleted.append(cursor.rowcount)

    engine = database.kw["bind"]
    event.listen(engine, "after_cursor_execute", note)
    changed = base_settings.model_copy(update={"retain_jobs_days": 90})
    retention = Retention(sessions=database, settings=changed, pass_seconds=0)
    try:
        retention.enforce()
        first = list(deleted)
        while count_rows(database, Job) + count_rows(database, Batch):
            retention.enforce()
    finally:
        event.remove(engine, "after_cursor_execute", note)

    assert first == [STEP]
    assert max(deleted) == STEP
    assert sum(deleted) == rows + STEP + 10
    with database() as session:
        assert count(session, Job) == count(session, Batch) == 0
        assert differences(session) == []


@pytest.mark.parametrize("step", [delete_jobs, delete_texts])
def test_a_step_keeps_its_bound_with_every_query_plan(
    database: SessionFactory, key: ApiKey, step: Callable[[Session, datetime], int]
) -> None:
    """The subquery has the limit: a plan that repeats it for each row exceeds the bound."""
    with database.begin() as session:
        add_jobs(session, key, STEP + 100)
    with database.begin() as session:
        for kind in ("hashjoin", "mergejoin", "hashagg", "sort", "incremental_sort", "material"):
            session.execute(text(f"set local enable_{kind} = off"))

        assert step(session, utc_now() - 90 * DAY) == STEP


def test_a_partly_deleted_batch_is_no_difference(
    database: SessionFactory, base_settings: Settings, key: ApiKey
) -> None:
    with database.begin() as session:
        add_ended_batch(session, key, 91, lines=STEP + 10)

    enforce(database, base_settings, seconds=0, jobs=90)

    with database() as session:
        assert count(session, Job) == 10
        assert count(session, Batch) == 1
        assert differences(session) == []


def test_a_batch_without_its_lines_is_a_difference(database: SessionFactory, key: ApiKey) -> None:
    with database.begin() as session:
        batch_id = add_ended_batch(session, key, 1, lines=1)
        session.execute(text("delete from jobs"))
        session.execute(text("delete from usage"))
        session.execute(text("delete from usage_hourly"))

    with database() as session:
        assert differences(session) == ["the batch has no lines"]
        assert session.get(Batch, batch_id) is not None


def test_a_locked_prompt_is_deleted_by_a_later_pass(
    database: SessionFactory, base_settings: Settings, key: ApiKey
) -> None:
    with database.begin() as session:
        _, locked, _ = [add_ended_job(session, key, days_ago) for days_ago in (33, 32, 31)]

    with database() as other:
        other.execute(text("select id from jobs where id = :id for update"), {"id": locked})
        enforce(database, base_settings, prompts=30)
        assert texts_of(database) == {locked}
    enforce(database, base_settings, prompts=30)

    assert texts_of(database) == set()


def texts_of(database: SessionFactory) -> set[UUID]:
    """Return the jobs that have a prompt."""
    with database() as session:
        return {job.id for job in session.scalars(select(Job)) if "prompt" in job.request}


def test_only_one_worker_deletes_at_a_time(
    database: SessionFactory, base_settings: Settings, key: ApiKey
) -> None:
    with database.begin() as session:
        add_ended_job(session, key, 91)

    with database() as other:
        take_lock(other, ServiceLock.RETENTION)
        enforce(database, base_settings, jobs=90)
        with database() as session:
            assert count(session, Job) == 1


def test_rows_are_found_by_an_index(database: SessionFactory, key: ApiKey) -> None:
    with database() as session:
        # PostgreSQL scans and sorts small tables: force the plan of a large one.
        for shortcut in ("seqscan", "bitmapscan", "sort"):
            session.execute(text(f"set local enable_{shortcut} = off"))
        for query, index in (
            (
                "select id from jobs where batch_id is null and finished_at is not null"
                " and finished_at < now() order by finished_at limit 500",
                "ix_jobs_finished_at",
            ),
            (
                "select id from batches where finished_at < now() order by finished_at limit 1",
                "ix_batches_finished_at",
            ),
        ):
            plan = "\n".join(session.scalars(text(f"explain {query}")))
            assert f"Index Scan using {index}" in plan
            assert "Sort" not in plan
