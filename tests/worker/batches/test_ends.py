"""The dispatcher ends cancelled, expired and completed batches with exact sums."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import redis
from sqlalchemy import select

from models.accounts.api_key import ApiKey
from models.accounts.user import delete_user
from models.batches.cancellation import begin_expiries, request_batch_cancel
from models.database.base import SessionFactory, utc_now
from models.execution.completion import record_ends
from models.execution.finish import finish_jobs
from models.jobs.job import Job, JobState
from models.jobs.outcome import JobOutcome
from tests.support.factories.batches import add_batch, batch_of, lines_by_state, new_batch
from tests.support.factories.rows import add_key, add_user, claim_jobs
from tests.support.polling import wait_until
from tests.support.worker.batch_runs import queue_of, run_queued, sums_agree
from worker.batches.dispatcher import Dispatcher


def test_a_cancelled_batch_ends_with_nothing_running(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool]
) -> None:
    batch_id = new_batch(database, lines=30)
    dispatch()
    with database.begin() as session:
        request_batch_cancel(session, batch_id)

    dispatch()

    with database() as session:
        assert batch_of(session, batch_id).state == "cancelled"
        assert lines_by_state(session, batch_id) == {"cancelled": 30}
        assert sums_agree(session)
    assert run_queued(database, redis_client) == 0


@pytest.mark.parametrize("end", ["cancelled", "expired"])
def test_another_dispatcher_completes_the_end_of_a_batch(
    database: SessionFactory, redis_client: redis.Redis, end: str
) -> None:
    batch_id = new_batch(database, lines=4100)
    with database.begin() as session:
        if end == "cancelled":
            request_batch_cancel(session, batch_id)
        else:
            batch_of(session, batch_id).expires_at = utc_now() - timedelta(seconds=1)
            begin_expiries(session, [batch_id])

    assert Dispatcher(sessions=database, client=redis_client).run_once()  # and its process dies
    with database() as session:
        assert lines_by_state(session, batch_id) == {end: 2000, "held": 2100}
    another = Dispatcher(sessions=database, client=redis_client)
    while another.run_once():
        pass

    with database() as session:
        assert batch_of(session, batch_id).state == end
        assert lines_by_state(session, batch_id) == {end: 4100}
        assert sums_agree(session)


def test_running_lines_of_a_cancelled_batch_are_cancelled_and_count(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool]
) -> None:
    batch_id = new_batch(database, lines=30)
    dispatch()
    with database.begin() as session:
        running = claim_jobs(
            session, queue_of(redis_client)[:2], worker_id="w", lease=timedelta(seconds=30)
        )
        request_batch_cancel(session, batch_id)
    with redis_client.pubsub() as commands:
        commands.subscribe("job-requests")
        wait_until(lambda: (commands.get_message(timeout=1) or {}).get("type") == "subscribe", 20)
        dispatch()
        messages = [commands.get_message(timeout=2) for _ in running]

    received = {str(message["data"]) for message in messages if message}
    assert len(received) == 2 and all("cancel" in text for text in received)
    with database.begin() as session:
        assert batch_of(session, batch_id).state == "cancelling"
        partial = JobOutcome(JobState.CANCELLED, prompt_tokens=5, completion_tokens=1)
        ended = finish_jobs(session, [(job, partial) for job in running], worker_id="w")
        record_ends(session, ended)
    with database() as session:
        batch = batch_of(session, batch_id)
        assert (batch.state, batch.cancelled, batch.completion_tokens) == ("cancelled", 30, 2)
        assert sums_agree(session)


def test_an_expired_batch_keeps_its_results(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool]
) -> None:
    batch_id = new_batch(database, lines=30)
    dispatch()
    run_queued(database, redis_client)
    dispatch()
    with database.begin() as session:
        batch_of(session, batch_id).expires_at = utc_now() - timedelta(seconds=1)

    dispatch()
    dispatch()

    with database() as session:
        batch = batch_of(session, batch_id)
        assert (batch.state, batch.succeeded, batch.expired) == ("expired", 10, 20)
        assert sums_agree(session)


@pytest.mark.parametrize("owner", ["key", "user"])
def test_a_batch_of_a_deleted_key_or_user_is_cancelled(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool], owner: str
) -> None:
    with database.begin() as session:
        user = add_user(session)
        key = add_key(session, user)
        batch_id = add_batch(session, key, lines=20).id
    dispatch()
    with database.begin() as session:
        if owner == "key":
            session.get_one(ApiKey, key.id).deleted_at = utc_now()
        else:
            delete_user(session, session.merge(user))

    dispatch()
    dispatch()

    with database() as session:
        assert batch_of(session, batch_id).state == "cancelled"
        assert lines_by_state(session, batch_id) == {"cancelled": 20}


def test_a_batch_without_open_lines_is_completed(
    database: SessionFactory, dispatch: Callable[[], bool]
) -> None:
    """All lines of the batch were invalid."""
    with database.begin() as session:
        batch = add_batch(session, lines=2, webhook_url="https://example.com/x")
        for job in session.scalars(select(Job).where(Job.batch_id == batch.id)):
            job.state, job.finished_at = "failed", utc_now()
        batch.failed = 2

    dispatch()

    with database() as session:
        assert batch_of(session, batch.id).state == "completed"
