"""The ends of running jobs that their worker writes, many in one statement.

The clock of the database, which all workers share, dates starts and ends. An API process with a
fast clock may date a job later: then the job ends at that later time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.histogram import BOUNDS
from models.database.arrays import uuid_array
from models.database.prepared import Prepared, Statements
from models.execution.claims import LOCK_IN_ORDER
from models.jobs.job import Job, JobState, new_job, values_of
from models.jobs.outcome import JobOutcome, outcome_values
from models.jobs.transitions import change_conditions
from models.usage.usage import RECORD_USED

_BOUNDS = f"{{{','.join(map(str, BOUNDS))}}}"
_ENDS = """
    id uuid, attempt integer, state text, choices jsonb, error jsonb, prompt_tokens integer,
    completion_tokens integer, cached_tokens integer, first_token_age double precision
"""
#: `state || ''` keeps PostgreSQL from using the index of running jobs, which holds all leases since
#: the last vacuum.
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
"""
_FINISH_JOBS = f"""
    {LOCK_IN_ORDER},
    ends as (select * from jsonb_to_recordset(%(ends)s::jsonb) as e ({_ENDS}))
    {_FINISH}
"""
_PARAMETERS = {"ids": "$1", "ends": "$2", "worker_id": "$3"}
FINISH_AT_ONCE = Prepared(
    "finish_jobs",
    "uuid[], json, text",
    f"""
    {LOCK_IN_ORDER % _PARAMETERS},
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
    """,
)


def finish_jobs(
    session: Session, ends: Sequence[tuple[Job, JobOutcome]], *, worker_id: str
) -> list[Job]:
    """End running jobs of `claim_jobs` in one statement.

    Returns the ended jobs with their new state. Omits jobs that this worker no longer held in this
    attempt.
    """
    _check(ends)
    values = {
        "ids": uuid_array(job.id for job, _ in ends),
        "ends": json.dumps([_end_row(job, outcome) for job, outcome in ends]),
        "worker_id": worker_id,
    }
    return _ended(ends, session.connection().exec_driver_sql(_FINISH_JOBS, values))


def finish_at_once(
    statements: Statements, ends: Sequence[tuple[Job, JobOutcome]], *, worker_id: str
) -> list[Job]:
    """End jobs as `finish_jobs` does, and record their usage.

    Both are committed in one round trip. Use it for jobs whose end has no other consequence: see
    `follows_only_usage`.
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
    values = (uuid_array(job.id for job, _ in ends), json.dumps(rows), worker_id)
    return _ended(ends, statements.run(FINISH_AT_ONCE, values))


def follows_only_usage(job: Job) -> bool:
    """Say whether the end of a job concerns no batch and no webhook."""
    return job.batch_id is None and not job.request.get("webhookUrl")


def _check(ends: Sequence[tuple[Job, JobOutcome]]) -> None:
    for state in {outcome.state for _, outcome in ends}:
        change_conditions(state, JobState.RUNNING)


def _ended(ends: Sequence[tuple[Job, JobOutcome]], found: Iterable[Any]) -> list[Job]:
    """Return those of the jobs that are in the rows `found`, with their new state."""
    found = {(row[0], row[1]): row[2:5] for row in found}
    return [
        new_job(
            **{
                **values_of(job),
                **outcome_values(outcome),
                "cancel_requested_at": found[job.id, job.attempt][0],
                "finished_at": found[job.id, job.attempt][1],
                "first_token_at": found[job.id, job.attempt][2],
            }
        )
        for job, outcome in ends
        if (job.id, job.attempt) in found
    ]


def find_ended(session: Session, jobs: Sequence[Job], *, worker_id: str) -> list[Job]:
    """Return those of a worker's jobs that ended in the attempt that it knows.

    The worker's commit may have succeeded although its response was lost.
    """
    known = {job.id: job.attempt for job in jobs}
    rows = session.scalars(
        select(Job).where(
            Job.id.in_(known), Job.worker_id == worker_id, Job.finished_at.is_not(None)
        )
    )
    return [job for job in rows if known[job.id] == job.attempt]


def _end_row(job: Job, end: JobOutcome) -> dict[str, Any]:
    return {
        **outcome_values(end),
        "id": str(job.id),
        "attempt": job.attempt,
        "first_token_age": end.first_token_age,
    }
