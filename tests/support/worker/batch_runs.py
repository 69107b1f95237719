"""Runs of released batch lines as a worker makes them, and the sums that follow."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import redis

from core.limits.limiter import Limiter
from core.queueing.broker import NAMESPACE
from core.queueing.names import QueueName
from models.accounts.api_key import ApiKey
from models.database.base import Session, SessionFactory
from models.execution.completion import record_ends
from models.execution.finish import finish_jobs
from models.jobs.job import JobState
from models.jobs.outcome import JobOutcome
from models.maintenance.consistency import compare_batches, compare_jobs
from models.maintenance.rollup_consistency import compare_roll_ups
from models.usage.limits import ended_job, read_key_use
from tests.support.factories.batches import batch_of
from tests.support.factories.rows import add_key, claim_jobs

#: Tokens that a line of `REQUEST` may need, and those that `run_queued` records for it.
WANTED = 15
USED = 8


def queue_of(client: redis.Redis) -> list[UUID]:
    """Return the jobs on the bulk queue, in order."""
    ids: Any = client.lrange(f"{NAMESPACE}:{QueueName.BULK}", 0, -1)
    return [UUID(job_id.decode()) for job_id in ids]


def run_queued(database: SessionFactory, client: redis.Redis) -> int:
    """Run all jobs on the queue as a worker does; return their number."""
    name = f"{NAMESPACE}:{QueueName.BULK}"
    with client.pipeline(transaction=True) as pipe:  # no job may be sent in between
        found, _ = pipe.lrange(name, 0, -1).delete(name, f"{name}.msgs").execute()
    ids = [UUID(job_id.decode()) for job_id in found]
    with database.begin() as session:
        jobs = claim_jobs(session, ids, worker_id="w", lease=timedelta(seconds=30))
        done = JobOutcome(JobState.SUCCEEDED, prompt_tokens=5, completion_tokens=3)
        ended = finish_jobs(session, [(job, done) for job in jobs], worker_id="w")
        record_ends(session, ended)
    for job in map(ended_job, ended):
        Limiter(client).settle(job.api_key_id, job.id, job.used_tokens)
    return len(ended)


def run_to_the_end(
    database: SessionFactory, client: redis.Redis, dispatch: Callable[[], bool], *batch_ids: UUID
) -> None:
    """Dispatch and run lines until the batches are final."""
    for _ in range(200):
        dispatch()
        run_queued(database, client)
        with database() as session:
            if all(batch_of(session, batch_id).is_final for batch_id in batch_ids):
                return
    raise AssertionError("the batches do not end")


def sums_agree(session: Session) -> bool:
    """Return whether batches, jobs and roll-ups have the same sums."""
    checks = (compare_jobs, compare_roll_ups, compare_batches)
    return not [d for check in checks for d in check(session, since=None, until=None)]


def new_key(database: SessionFactory, **values: Any) -> ApiKey:
    with database.begin() as session:
        key = add_key(session)
        for name, value in values.items():
            setattr(key, name, value)
        return key


def month_of(database: SessionFactory, client: redis.Redis, key: ApiKey) -> tuple[int, int]:
    """Return the key's tokens of the month and its jobs in flight, as the API reports them."""
    with database() as session:
        state = Limiter(client).read(key, recall=lambda began: read_key_use(session, key.id, began))
    return state.month.used, state.in_flight.used
