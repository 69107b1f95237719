"""Retention deletes only data that is older than its setting allows."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.config.settings import Settings
from core.ids import earliest_id, new_id
from models.accounts.api_key import ApiKey
from models.accounts.audit import AuditEntry
from models.batches.batch import Batch
from models.database.base import SessionFactory, utc_now
from models.jobs.job import Job, JobState
from models.usage.usage import Usage
from models.webhooks.webhook import DeliveryState, WebhookAttempt, WebhookDelivery
from tests.support.factories.batches import add_batch
from tests.support.factories.rows import add_job
from tests.support.worker.retention import (
    DAY,
    REQUEST,
    add_ended_batch,
    add_ended_job,
    count,
    differences,
    enforce,
)


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
