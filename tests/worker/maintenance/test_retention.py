"""Retention deletes only expired data, in small steps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, func, select, text, update
from sqlalchemy.orm import Session

from core.config.settings import Settings
from core.ids import earliest_id, new_id
from models.accounts.api_key import ApiKey
from models.accounts.audit import AuditEntry
from models.batches.batch import Batch, BatchState
from models.database.base import SessionFactory, utc_now
from models.database.locks import ServiceLock, take_lock
from models.jobs.job import Job, JobState
from models.maintenance.consistency import compare_batches, compare_jobs
from models.maintenance.retention import STEP, delete_jobs, delete_texts
from models.maintenance.rollup_consistency import compare_roll_ups
from models.usage.usage import Usage, record_usages
from models.webhooks.webhook import DeliveryState, WebhookAttempt, WebhookDelivery
from tests.support.factories.batches import add_batch
from tests.support.factories.rows import add_job
from worker.maintenance.retention import Retention

DAY = timedelta(days=1)
CHOICES = [{"text": "a secret answer", "index": 0, "finish_reason": "stop"}]
REQUEST = {
    "prompt": "a secret question",
    "stop": ["secret"],
    "maxTokens": 7,
    "metadata": {"team": "red"},
}


def enforce(
    database: SessionFactory, settings: Settings, *, seconds: float = 60.0, **days: int
) -> None:
    """Make one pass, by default without a time limit."""
    retained = {f"retain_{name}_days": count for name, count in days.items()}
    changed = settings.model_copy(update=retained)
    Retention(sessions=database, settings=changed, pass_seconds=seconds).enforce()


def add_ended_job(session: Session, key: ApiKey, days_ago: float, **values: Any) -> UUID:
    """Add a job that ended `days_ago`, with its usage."""
    at = utc_now() - days_ago * DAY
    defaults = {"state": JobState.SUCCEEDED, "request": REQUEST, "choices": CHOICES}
    job = add_job(
        session,
        key,
        **{**defaults, **values},
        created_at=at,
        started_at=at,
        finished_at=at,
        prompt_tokens=10,
        completion_tokens=5,
    )
    record_usages(session, [job])
    return job.id


def add_ended_batch(session: Session, key: ApiKey, days_ago: float, *, lines: int) -> UUID:
    """Add a batch whose lines all succeeded `days_ago`, with their usage."""
    at = utc_now() - days_ago * DAY
    batch = add_batch(session, key, lines=lines, succeeded=lines, prompt_tokens=5 * lines)
    values = {"started_at": at, "finished_at": at}
    session.execute(
        update(Job)
        .where(Job.batch_id == batch.id)
        .values(state=JobState.SUCCEEDED, is_held=False, choices=CHOICES, created_at=at, **values)
    )
    session.execute(
        update(Batch).where(Batch.id == batch.id).values(state=BatchState.COMPLETED, **values)
    )
    record_usages(session, list(session.scalars(select(Job).where(Job.batch_id == batch.id))))
    return batch.id


def count(session: Session, table: Any) -> int:
    return session.scalar(select(func.count()).select_from(table)) or 0


def count_rows(database: SessionFactory, table: Any) -> int:
    with database() as session:
        return count(session, table)


def differences(session: Session) -> list[str]:
    """Return the differences between the tables."""
    every = {"since": None, "until": None}
    found = [
        *compare_jobs(session, **every),
        *compare_roll_ups(session, **every),
        *compare_batches(session, **every),
    ]
    return [difference.problem for difference in found]


def test_by_default_nothing_is_deleted(
    database: SessionFactory, base_settings: Settings, key: ApiKey
) -> None:
    with database.begin() as session:
        add_ended_job(session, key, 4000)
        add_ended_batch(session, key, 4000, lines=2)

    enforce(database, base_settings)

    with database() as session:
        assert count(session, Job) == 3
        assert session.scalars(select(Job.texts_deleted_at)).all() == [None] * 3


def test_texts_are_deleted_and_the_rest_of_a_job_stays(
    database: SessionFactory, base_settings: Settings, key: ApiKey
) -> None:
    with database.begin() as session:
        old = add_ended_job(session, key, 31)
        failed = add_ended_job(session, key, 40, state=JobState.FAILED, choices=None)
        recent = add_ended_job(session, key, 29)
        waiting = add_job(session, key, request=REQUEST, created_at=utc_now() - 99 * DAY).id
        batch_id = add_ended_batch(session, key, 31, lines=3)
        open_batch = add_batch(session, key, lines=2, created_at=utc_now() - 99 * DAY).id

    enforce(database, base_settings, prompts=30)

    with database() as session:
        for job_id in (old, failed):
            job = session.get_one(Job, job_id)
            assert job.request == {"maxTokens": 7, "metadata": {"team": "red"}}
            assert job.choices is None
            assert job.texts_deleted_at is not None
            assert (job.prompt_tokens, job.completion_tokens) == (10, 5)
        for job_id in (recent, waiting):
            job = session.get_one(Job, job_id)
            assert job.request == REQUEST
            assert job.texts_deleted_at is None
        assert session.get_one(Batch, batch_id).texts_deleted_at is not None
        assert session.get_one(Batch, open_batch).texts_deleted_at is None
        lines = session.scalars(select(Job).where(Job.batch_id == batch_id)).all()
        assert [(line.request, line.choices) for line in lines] == [({"maxTokens": 10}, None)] * 3
        held = session.scalars(select(Job).where(Job.batch_id == open_batch)).all()
        assert {line.request["prompt"] for line in held} == {"hello"}
        assert differences(session) == []


def test_later_passes_delete_the_remaining_texts(
    database: SessionFactory, base_settings: Settings, key: ApiKey
) -> None:
    with database.begin() as session:
        add_ended_job(session, key, 31)
        later = add_ended_job(session, key, 20)
    enforce(database, base_settings, prompts=30)

    enforce(database, base_settings, prompts=10)

    with database() as session:
        assert session.get_one(Job, later).texts_deleted_at is not None


def test_jobs_and_batches_are_deleted_and_their_usage_stays(
    database: SessionFactory, base_settings: Settings, key: ApiKey
) -> None:
    with database.begin() as session:
        add_ended_job(session, key, 91)
        recent = add_ended_job(session, key, 89)
        waiting = add_job(session, key, created_at=utc_now() - 99 * DAY).id
        running = add_job(session, key, state=JobState.RUNNING, started_at=utc_now() - 99 * DAY).id
        add_ended_batch(session, key, 91, lines=3)
        recent_batch = add_ended_batch(session, key, 89, lines=2)
        open_batch = add_batch(session, key, lines=2, created_at=utc_now() - 99 * DAY).id

    enforce(database, base_settings, jobs=90)

    with database() as session:
        jobs = set(session.scalars(select(Job.id).where(Job.batch_id.is_(None))))
        assert jobs == {recent, waiting, running}
        assert set(session.scalars(select(Batch.id))) == {recent_batch, open_batch}
        assert count(session, Job) == 3 + 2 + 2
        assert count(session, Usage) == 1 + 1 + 3 + 2
        assert differences(session) == []


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


def test_webhooks_and_the_audit_trail_expire_at_their_own_ages(
    database: SessionFactory, base_settings: Settings, key: ApiKey
) -> None:
    def add_message(session: Session, days_ago: int, state: DeliveryState) -> UUID:
        at = utc_now() - days_ago * DAY
        delivery = WebhookDelivery(
            id=id_of(at),
            user_id=key.user_id,
            api_key_id=key.id,
            job_id=new_id(),
            url="https://example.com",
            event="job.succeeded",
            payload={},
            state=state,
            created_at=at,
        )
        session.add(delivery)
        session.flush()
        session.add(WebhookAttempt(delivery_id=delivery.id, status=200, duration_ms=1))
        return delivery.id

    with database.begin() as session:
        add_message(session, 31, DeliveryState.DELIVERED)
        remaining = {
            add_message(session, 31, DeliveryState.PENDING),
            add_message(session, 29, DeliveryState.FAILED),
        }
        for days_ago in (29, 364, 366):
            at = utc_now() - days_ago * DAY
            session.add(AuditEntry(id=id_of(at), at=at, action="key.create"))

    enforce(database, base_settings, webhooks=30, audit=365)

    with database() as session:
        assert set(session.scalars(select(WebhookDelivery.id))) == remaining
        assert count(session, WebhookAttempt) == 2
        assert count(session, AuditEntry) == 2


def test_rows_with_ids_of_a_slow_clock_expire_at_the_age_of_others(
    database: SessionFactory, base_settings: Settings, key: ApiKey
) -> None:
    """An id has the time of the machine that made it; the row has the database's."""
    with database.begin() as session:
        delivery = WebhookDelivery(
            id=id_of(utc_now() - 400 * DAY),
            user_id=key.user_id,
            api_key_id=key.id,
            job_id=new_id(),
            url="https://example.com",
            event="job.succeeded",
            payload={},
            state=DeliveryState.DELIVERED,
        )
        session.add(delivery)
        session.add(AuditEntry(id=id_of(utc_now() - 400 * DAY), action="key.create"))

    enforce(database, base_settings, webhooks=30, audit=365)

    with database() as session:
        assert (count(session, WebhookDelivery), count(session, AuditEntry)) == (1, 1)


def id_of(moment: datetime) -> UUID:
    """Return a new id with the timestamp of a moment."""
    return UUID(int=earliest_id(moment).int | (new_id().int & (2**62 - 1)))


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
