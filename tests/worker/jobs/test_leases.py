"""A runner stores only jobs that its worker holds, and requeues the others."""

from __future__ import annotations

from datetime import timedelta

import redis

from core.prompts.tokenizer import PromptTokenizer
from models.database.base import SessionFactory
from models.jobs.job import Job
from models.jobs.transitions import requeue_silent_jobs
from tests.support.polling import wait_until
from tests.support.worker.runner_harness import Harness, start_harness


def test_a_job_that_another_worker_claimed_is_dropped(slow_harness: Harness) -> None:
    job_id = slow_harness.add_job(request={"prompt": "x", "maxTokens": 40})
    slow_harness.deliver(job_id)
    wait_until(lambda: slow_harness.leases.is_held(job_id, 1), 20)

    with slow_harness.database.begin() as session:
        session.get_one(Job, job_id).worker_id = "w2"
    slow_harness.leases.renew()
    assert slow_harness.runner.wait_idle(10)

    assert slow_harness.read(job_id).state == "running"
    assert slow_harness.usage() == []


def test_a_requeued_job_runs_on_another_worker(
    slow_harness: Harness,
    database: SessionFactory,
    redis_client: redis.Redis,
    tokenizer: PromptTokenizer,
) -> None:
    job_id = slow_harness.add_job(request={"prompt": "x", "maxTokens": 40})
    slow_harness.deliver(job_id)
    wait_until(lambda: slow_harness.leases.is_held(job_id, 1), 20)

    assert slow_harness.leases.hand_back() == 1
    assert slow_harness.runner.wait_idle(10)
    assert (slow_harness.read(job_id).state, slow_harness.read(job_id).attempt) == ("queued", 0)

    other = start_harness(database, redis_client, tokenizer, worker_id="w2")
    other.run(job_id)
    other.stop()
    assert (slow_harness.read(job_id).state, slow_harness.read(job_id).attempt) == ("succeeded", 1)
    assert len(slow_harness.usage()) == 1


def test_a_late_result_after_the_lease_expired_is_dropped(slow_harness: Harness) -> None:
    job_id = slow_harness.add_job(request={"prompt": "x", "maxTokens": 3})
    slow_harness.deliver(job_id)
    wait_until(lambda: slow_harness.leases.is_held(job_id, 1), 20)

    with slow_harness.database.begin() as session:
        job = session.get_one(Job, job_id)
        assert job.lease_expires_at is not None
        job.lease_expires_at -= timedelta(minutes=1)
        session.flush()
        requeue_silent_jobs(session, max_attempts=3, limit=10)
    assert slow_harness.runner.wait_idle(10)

    assert slow_harness.read(job_id).state == "queued"
    assert slow_harness.usage() == []


def test_a_job_submitted_to_a_stopping_engine_is_requeued(harness: Harness) -> None:
    job_id = harness.add_job()
    harness.delivery.stop()

    harness.run(job_id)

    assert (harness.read(job_id).state, harness.read(job_id).attempt) == ("queued", 0)
    assert harness.usage() == []


def test_a_leaving_process_claims_nothing_and_cancels_nothing(slow_harness: Harness) -> None:
    running = slow_harness.add_job(request={"prompt": "x", "maxTokens": 40})
    slow_harness.deliver(running)
    wait_until(lambda: slow_harness.leases.is_held(running, 1), 20)
    delivered_late = slow_harness.add_job()

    slow_harness.runner.leave()
    slow_harness.deliver(delivered_late)
    slow_harness.delivery.stop()
    assert slow_harness.runner.wait_idle(10)

    states = [slow_harness.read(job_id).state for job_id in (running, delivered_late)]
    assert states == ["queued", "queued"]
    assert slow_harness.usage() == []
