"""Claims jobs for a worker, renews their leases and returns them to the queue.

Each statement changes many jobs and locks them in the order of their ids, so that two statements
never wait for each other's rows. The clock of the database, which all workers share, dates claims.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from models.database.arrays import uuid_array
from models.database.prepared import Prepared, Statements
from models.jobs.job import Job, JobState, new_job
from models.jobs.transitions import requeue

#: What a worker must know of a job that it claims.
_CLAIMED = (
    *("id", "user_id", "api_key_id", "batch_id", "queue", "state", "priority", "model"),
    *("request", "prompt_tokens", "charged_tokens", "is_streamed", "is_cached", "attempt"),
    *("worker_id", "request_id", "created_at", "started_at", "expires_at", "cancel_requested_at"),
    *("released_at", "traceparent"),
)

#: Locks rows in the order of their ids. An UPDATE takes them as its plan finds them, sorted or not.
LOCK_IN_ORDER = """
    with in_order as (
        select id, state, attempt from jobs where id = any(%(ids)s::uuid[])
        order by id for no key update
    )
"""
#: Stands for attempts without an end.
_NO_LAST = 2**31 - 1

#: In SQL, as what follows: workers run them for every job, and the ORM takes several times longer
#: than PostgreSQL.
#:
#: This commit does not wait for the disk: a server that forgets a claim in a crash has the
#: job queued again, and what this attempt makes of it is refused.
CLAIM = Prepared(
    "claim_jobs",
    "uuid[], text, interval, integer, boolean",
    f"""
    {LOCK_IN_ORDER % {"ids": "$1"}}
    update jobs set state = '{JobState.RUNNING}', attempt = attempt + 1,
        worker_id = $2, started_at = coalesce(started_at, greatest(now(), created_at)),
        lease_expires_at = now() + $3
    where id = any($1) and id in (
        select id from in_order where attempt < $4
        union all (
            select id from in_order
            where attempt >= $4 and state = '{JobState.QUEUED}' and $5
            order by id limit 1
        )
    )
      and state = '{JobState.QUEUED}' and not is_held
      and (expires_at is null or expires_at > now() or started_at is not null)
    returning {", ".join(_CLAIMED)}
    """,
    has_async_commit=True,
)


def claim_jobs(
    statements: Statements,
    job_ids: Sequence[UUID],
    *,
    worker_id: str,
    lease: timedelta,
    max_attempts: int = 0,
    may_be_last: bool = True,
) -> list[Job]:
    """Take those of the jobs for `worker_id` that are queued. They belong to no session.

    A job whose earlier attempts all lost their worker may be what kills workers. On its last
    attempt it shares one with none of its like: it then fails alone, and those that only were with
    it before succeed.

    Args:
        max_attempts: of a job; 0 for no end of them.
        may_be_last: take one job on its last attempt; without it none.
    """
    last = max_attempts - 1 if max_attempts > 1 else _NO_LAST
    values = (uuid_array(job_ids), worker_id, lease, last, may_be_last)
    return [_claimed(row) for row in statements.run(CLAIM, values)]


@dataclass(frozen=True, slots=True)
class RenewedLease:
    """A job that the worker still holds."""

    attempt: int
    must_cancel: bool


def renew_leases(
    session: Session, job_ids: Sequence[UUID], *, worker_id: str, lease: timedelta
) -> dict[UUID, RenewedLease]:
    """Renew the leases of a worker in one statement; return the jobs that it still holds."""
    ours = (Job.state == JobState.RUNNING, Job.worker_id == worker_id)
    in_order = (
        select(Job.id)
        .where(Job.id.in_(job_ids), *ours)
        .order_by(Job.id)
        .with_for_update(key_share=True)
    )
    rows = session.execute(
        update(Job)
        .where(Job.id.in_(in_order.scalar_subquery()), *ours)
        .values(lease_expires_at=_end_of(lease))
        .returning(Job.id, Job.attempt, Job.cancel_requested_at.is_not(None))
        .execution_options(synchronize_session=False)
    )
    return {job_id: RenewedLease(attempt, must_cancel) for job_id, attempt, must_cancel in rows}


def hand_back_jobs(session: Session, attempts: dict[UUID, int], *, worker_id: str) -> list[Job]:
    """Return a worker's running jobs (id to attempt) to the queue, because it must stop."""
    handed_back = []
    for job_id, attempt in sorted(attempts.items()):
        job = session.scalar(
            requeue(Job.id == job_id, Job.attempt == attempt, Job.worker_id == worker_id).values(
                attempt=Job.attempt - 1
            )
        )
        if job is not None:
            handed_back.append(job)
    return handed_back


def _claimed(row: Iterable[Any]) -> Job:
    return new_job(**dict(zip(_CLAIMED, row, strict=True)))


def _end_of(lease: timedelta) -> Any:
    """Return the end of a lease that begins now, by the one clock that all workers share."""
    return func.now() + lease
