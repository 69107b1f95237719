"""What a worker writes about the jobs that it holds: that it begins them, that it still has them,
that they ended or go back.

Many jobs in one statement, and in one order everywhere: two statements must not wait for each
other's rows. Begins and ends are timed by the database, the one clock that all workers share; an
API whose own clock is ahead may have dated the job later, and then it ends at that moment.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from core.duration_buckets import BOUNDS
from models.base import is_one_of
from models.job import (
    Job,
    JobOutcome,
    JobState,
    may_come,
    new_job,
    outcome_values,
    requeue,
    values_of,
)
from models.statements import Prepared, Statements
from models.usage import RECORD_USED

#: What a worker must know of a job that it claims.
_CLAIMED = (
    *("id", "user_id", "api_key_id", "batch_id", "queue", "state", "priority", "model"),
    *("request", "prompt_tokens", "charged_tokens", "is_streamed", "is_cached", "attempt"),
    *("worker_id", "request_id", "created_at", "started_at", "expires_at", "cancel_requested_at"),
    *("released_at", "traceparent"),
)

#: Locks rows in the order of their ids. An UPDATE takes them as its plan finds them, sorted or not.
_IN_ORDER = """
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
#: Nobody waits for this one to reach the disk: a server that forgets a claim in a crash has the
#: job queued again, and what this attempt makes of it is refused.
CLAIM = Prepared(
    "claim_jobs",
    "uuid[], text, interval, integer, boolean",
    f"""
    {_IN_ORDER % {"ids": "$1"}}
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
    """,  # noqa: S608 - of our own names alone
    is_lazy=True,
)

_BOUNDS = f"{{{','.join(map(str, BOUNDS))}}}"
_ENDS = """
    id uuid, attempt integer, state text, choices jsonb, error jsonb, prompt_tokens integer,
    completion_tokens integer, cached_tokens integer, first_token_age double precision
"""
#: The state is no bare column here: the index of what runs would be taken for it, which holds the
#: leases of all jobs since the last vacuum.
_FINISH = f"""
    update jobs set state = e.state, choices = e.choices, error = e.error,
        prompt_tokens = e.prompt_tokens, completion_tokens = e.completion_tokens,
        cached_tokens = e.cached_tokens,
        first_token_at = case when e.first_token_age is not null
            then greatest(now() - make_interval(secs => e.first_token_age), jobs.started_at) end,
        finished_at = greatest(now(), jobs.created_at), lease_expires_at = null
    from ends e join in_order on in_order.id = e.id
    where jobs.id = any(%(ids)s::uuid[]) and jobs.id = e.id and jobs.attempt = e.attempt
      and jobs.state || '' = '{JobState.RUNNING}' and jobs.worker_id = %(worker_id)s
    returning jobs.id, jobs.attempt, jobs.cancel_requested_at, jobs.finished_at,
              jobs.first_token_at, coalesce(jobs.released_at, jobs.created_at) as queued_at
"""  # noqa: S608 - of our own names alone
_FINISH_JOBS = f"""
    {_IN_ORDER},
    ends as (select * from jsonb_to_recordset(%(ends)s::jsonb) as e ({_ENDS}))
    {_FINISH}
"""  # noqa: S608 - of our own names alone
_PARAMETERS = {"ids": "$1", "ends": "$2", "worker_id": "$3"}
FINISH_AT_ONCE = Prepared(
    "finish_jobs",
    "uuid[], json, text",
    f"""
    {_IN_ORDER % _PARAMETERS},
    ends as (
        select * from json_to_recordset($2) as e (
            {_ENDS}, user_id uuid, api_key_id uuid, model text
        )
    ),
    ended as ({_FINISH % _PARAMETERS}),
    timed as (
        select *, round(extract(epoch from finished_at - queued_at) * 1000)::bigint as duration_ms
        from ended
    ),
    used as (
        select e.id as job_id, e.user_id, e.api_key_id, e.model, e.state, e.prompt_tokens,
               e.completion_tokens, e.cached_tokens, t.duration_ms, t.finished_at as created_at,
               width_bucket(t.duration_ms, '{_BOUNDS}'::bigint[]) as bucket
        from ends e join timed t using (id, attempt)
    ),
    {RECORD_USED}
    select id, attempt, cancel_requested_at, finished_at, first_token_at from ended
    """,  # noqa: S608 - of our own names alone
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
    values = (_array(job_ids), worker_id, lease, last, may_be_last)
    return [_claimed(row) for row in statements.run(CLAIM, values)]


def finish_jobs(
    session: Session, ends: Sequence[tuple[Job, JobOutcome]], *, worker_id: str
) -> list[Job]:
    """End running jobs, as `claim_jobs` gave them, all in one statement.

    Returns those that ended, as they are now: not those that were no longer this worker's in this
    attempt.
    """
    _check(ends)
    values = {
        "ids": _array(job.id for job, _ in ends),
        "ends": json.dumps([_end_row(job, outcome) for job, outcome in ends]),
        "worker_id": worker_id,
    }
    return _ended(ends, session.connection().exec_driver_sql(_FINISH_JOBS, values))


def finish_at_once(
    statements: Statements, ends: Sequence[tuple[Job, JobOutcome]], *, worker_id: str
) -> list[Job]:
    """Do what `finish_jobs` does, record the usage, and commit both, in one round trip.

    For jobs from whose end nothing else follows: see `follows_only_usage`.
    """
    _check(ends)
    rows = [
        {
            **_end_row(job, outcome),
            "user_id": job.user_id.hex,
            "api_key_id": job.api_key_id.hex,
            "model": job.model,
        }
        for job, outcome in ends
    ]
    values = (_array(job.id for job, _ in ends), json.dumps(rows), worker_id)
    return _ended(ends, statements.run(FINISH_AT_ONCE, values))


def follows_only_usage(job: Job) -> bool:
    """Say whether the end of a job concerns no batch and no webhook."""
    return job.batch_id is None and not job.request.get("webhookUrl")


def _check(ends: Sequence[tuple[Job, JobOutcome]]) -> None:
    for state in {outcome.state for _, outcome in ends}:
        may_come(state, JobState.RUNNING)


def _ended(ends: Sequence[tuple[Job, JobOutcome]], found: Iterable[Any]) -> list[Job]:
    """Return the jobs that were `found` to have ended, as they are now."""
    told = {(row[0], row[1]): row[2:5] for row in found}
    return [
        new_job(
            **{
                **values_of(job),
                **outcome_values(outcome),
                "cancel_requested_at": told[job.id, job.attempt][0],
                "finished_at": told[job.id, job.attempt][1],
                "first_token_at": told[job.id, job.attempt][2],
            }
        )
        for job, outcome in ends
        if (job.id, job.attempt) in told
    ]


def find_ended(session: Session, jobs: Sequence[Job], *, worker_id: str) -> list[Job]:
    """Return those of a worker's jobs that ended in the attempt that it knows."""
    known = {job.id: job.attempt for job in jobs}
    rows = session.scalars(
        select(Job).where(
            Job.id.in_(known), Job.worker_id == worker_id, Job.finished_at.is_not(None)
        )
    )
    return [job for job in rows if known[job.id] == job.attempt]


@dataclass(frozen=True, slots=True)
class HeldJob:
    """What a worker is told of a job that is still its own."""

    attempt: int
    must_cancel: bool


def renew_leases(
    session: Session, job_ids: Sequence[UUID], *, worker_id: str, lease: timedelta
) -> dict[UUID, HeldJob]:
    """Renew all leases of one worker in one statement; return what is still its own."""
    ours = (Job.state == JobState.RUNNING, Job.worker_id == worker_id)
    in_order = (
        select(Job.id)
        .where(Job.id.in_(job_ids), *ours)
        .order_by(Job.id)
        .with_for_update(key_share=True)
    )
    rows = session.execute(
        update(Job)
        .where(is_one_of(Job.id, in_order), *ours)
        .values(lease_expires_at=_end_of(lease))
        .returning(Job.id, Job.attempt, Job.cancel_requested_at.is_not(None))
        .execution_options(synchronize_session=False)
    )
    return {job_id: HeldJob(attempt, must_cancel) for job_id, attempt, must_cancel in rows}


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


def _array(ids: Iterable[UUID]) -> str:
    """Return ids as PostgreSQL writes an array."""
    return f"{{{','.join([job_id.hex for job_id in ids])}}}"


def _claimed(row: Iterable[Any]) -> Job:
    return new_job(**dict(zip(_CLAIMED, row, strict=True)))


def _end_row(job: Job, end: JobOutcome) -> dict[str, Any]:
    return {
        **outcome_values(end),
        "id": str(job.id),
        "attempt": job.attempt,
        "first_token_age": end.first_token_age,
    }


def _end_of(lease: timedelta) -> Any:
    """Return the end of a lease that begins now, by the one clock that all workers share."""
    return func.now() + lease
