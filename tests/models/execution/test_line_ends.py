from __future__ import annotations

import time
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models.batches.dispatch import next_lines, release_lines
from models.database.base import SessionFactory, utc_now
from models.execution.line_ends import (
    cancel_released_lines,
    end_held_lines,
    expire_held_lines,
    expire_released_lines,
)
from models.jobs.job import Job, JobState
from models.maintenance.consistency import compare_batches, compare_jobs
from models.webhooks.webhook import WebhookDelivery
from tests.support.factories.batches import (
    REQUEST,
    add_batch,
    batch_of,
    claim_lines,
    lines_by_state,
)

BIG = {**REQUEST, "maxTokens": 500, "n": 2}


def test_held_lines_end_in_chunks_and_are_counted(session: Session) -> None:
    batch_id = add_batch(session, lines=25).id
    claim_lines(session, batch_id, count=3)

    first = end_held_lines(session, batch_id, JobState.CANCELLED, limit=20)
    second = end_held_lines(session, batch_id, JobState.CANCELLED, limit=20)

    assert (first.checked, second.checked) == (20, 2)
    assert lines_by_state(session, batch_id) == {"running": 3, "cancelled": 22}
    assert batch_of(session, batch_id).cancelled == 22
    assert list(compare_batches(session, since=None, until=None)) == []
    assert list(compare_jobs(session, since=None, until=None)) == []


def test_only_lines_that_need_more_than_the_quota_end(session: Session) -> None:
    batch_id = add_batch(session, requests=[REQUEST, BIG, REQUEST, BIG]).id
    error = {"code": "monthly_quota_exceeded", "message": "x"}

    ends = end_held_lines(session, batch_id, JobState.FAILED, error=error, room=1004)

    assert (len(ends.ids), ends.checked, ends.last_line) == (2, 4, 4)
    failed = session.scalars(select(Job).where(Job.state == "failed").order_by(Job.line)).all()
    assert [(job.line, job.error) for job in failed] == [(2, error), (4, error)]
    fits = end_held_lines(session, batch_id, JobState.FAILED, error=error, room=15)
    assert fits.ids == []


def test_a_held_line_with_a_webhook_sends_it_at_its_end(
    session: Session,
) -> None:
    url = "https://example.com/line"
    batch_id = add_batch(session, requests=[REQUEST, {**REQUEST, "webhookUrl": url}]).id

    end_held_lines(session, batch_id, JobState.CANCELLED)

    (delivery,) = session.scalars(select(WebhookDelivery))
    assert (delivery.url, delivery.event) == (url, "job.cancelled")


def test_locked_lines_are_left_for_the_next_time(database: SessionFactory) -> None:
    with database.begin() as session:
        batch_id = add_batch(session, lines=3).id
    with database.begin() as other, database.begin() as session:
        locked = next_lines(other, {batch_id: 1}, {})
        release_lines(other, locked)
        ends = end_held_lines(session, batch_id, JobState.CANCELLED)

        assert locked[0].id not in ends.ids and len(ends.ids) == 2

    with database() as session:
        assert lines_by_state(session, batch_id) == {"queued": 1, "cancelled": 2}


def test_released_lines_end_and_running_ones_are_cancelled_once(session: Session) -> None:
    batch_id = add_batch(session, lines=5).id
    running = claim_lines(session, batch_id, count=2)
    release_lines(session, next_lines(session, {batch_id: 2}, {}))

    found = cancel_released_lines(session, batch_id)

    assert sorted(job.state for job in found) == ["cancelled"] * 2 + ["running"] * 2
    assert {job.id for job in found if not job.is_final} == {job.id for job in running}
    assert cancel_released_lines(session, batch_id) == []
    assert batch_of(session, batch_id).cancelled == 2


def test_a_released_line_expires_only_before_it_begins(
    session: Session,
) -> None:
    batch_id = add_batch(session, lines=3).id
    claim_lines(session, batch_id, count=1)
    release_lines(session, next_lines(session, {batch_id: 1}, {}))

    assert len(expire_released_lines(session, batch_id)) == 1

    assert lines_by_state(session, batch_id) == {"running": 1, "expired": 1, "held": 1}


def test_a_held_line_expires_at_its_own_time_unless_its_batch_is_due(
    session: Session,
) -> None:
    past = utc_now() - timedelta(seconds=5)
    short = add_batch(session, lines=2, line_expires_at=past).id
    due = add_batch(session, lines=2, line_expires_at=past, expires_at=past).id

    assert len(expire_held_lines(session)) == 2

    assert batch_of(session, short).state == "completed"
    assert lines_by_state(session, due) == {"held": 2}


@pytest.mark.alone
def test_10000_held_lines_end_within_seconds(session: Session) -> None:
    batch_id = add_batch(session, lines=10_000).id
    began = time.monotonic()

    while end_held_lines(session, batch_id, JobState.CANCELLED).ids:
        pass

    assert time.monotonic() - began < 10
    assert batch_of(session, batch_id).cancelled == 10_000
