"""A worker's claims of jobs: taking them, renewing leases and returning them.

Statements that change many jobs lock them in the order of their ids. So two statements never wait
for each other's rows. The clock of the database, which all workers share, dates claims.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from models.database.arrays import is_among, uuid_array
from models.database.prepared import Prepared, Statements
from models.jobs.job import Job, JobState, new_job
from models.jobs.transitions import requeue

#: The columns that a worker needs of a job.
_CLAIMED = (
    *("id", "user_id", "api_key_id", "batch_id", "queue", "state", "priority", "model"),
    *("request", "prompt_tokens", "charged_tokens", "is_streamed", "is_cached", "attempt"),
    *("worker_id", "request_id", "created_at", "started_at", "expires_at", "cancel_requested_at"),
    *("released_at", "traceparent"),
)

#: Locks rows in the order of their ids. An UPDATE alone locks them in the order of its plan.
LOCK_IN_ORDER = """
    with in_order as (
        select id, state, attempt from jobs where id = any(%(ids)s::uuid[])
        order by id for no key update
    )
"""
#: A number of attempts that no job reaches, for no limit.
_NO_LAST = 2**31 - 1

#: In SQL, because workers run it for every job, and the ORM takes several times longer than
#: PostgreSQL.
#:
#: The commit does not wait for the disk. If the server loses the claim in a crash, the job is
#: queued again, and the end that this attempt reports is rejected.
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
    """Claim those of the jobs that are queued.

    A job whose earlier attempts all lost their worker may crash workers. A worker runs at most one
    job on its last attempt at a time. So the job at fault fails alone, and jobs that only ran
    beside it succeed. The returned jobs belong to no session.

    Args:
        max_attempts: the most attempts of a job; 0 for no limit.
        may_be_last: claim one job on its last attempt; otherwise none.
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
    """Renew a worker's leases in one statement; return the jobs it still holds."""
    ours = (Job.state == JobState.RUNNING, Job.worker_id == worker_id)
    in_order = (
        select(Job.id)
        .where(Job.id.in_(job_ids), *ours)
        .order_by(Job.id)
        .with_for_update(key_share=True)
    )
    rows = session.execute(
        update(Job)
        .where(is_among(Job.id, in_order), *ours)
        .values(lease_expires_at=_end_of(lease))
        .returning(Job.id, Job.attempt, Job.cancel_requested_at.is_not(None))
        .execution_options(synchronize_session=False)
    )
    return {job_id: RenewedLease(attempt, must_cancel) for job_id, attempt, must_cancel in rows}


def hand_back_jobs(session: Session, attempts: dict[UUID, int], *, worker_id: str) -> list[Job]:
    """Return running jobs to the queue, because their worker must stop.

    The interrupted attempts do not count. Returns the requeued jobs.

    Args:
        attempts: the present attempt of each job, by id.
    """
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
    """Return the end of a lease that begins now, by the database's clock."""
    return func.now() + lease
