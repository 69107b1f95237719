"""Compares jobs with their usage, and batches with their lines, row by row.

- A job that started and ended has exactly one row of usage, with its counts and its state.
- A job that never started has no row of usage.
- A row of usage without a job is correct only if retention deleted the jobs of its time.
- The counters of a batch are the sums of its ended lines, and the tokens of its started ones.
- A batch has ended when all its lines have ended.

`rollup_consistency.py` compares the roll-ups. All reads are in one snapshot, so that a running
service causes no differences.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.ids import Prefix, format_id
from models.jobs.job import FINAL_STATES, TOKEN_COUNTS

#: Rows per fetch.
CHUNK = 1000


@dataclass(frozen=True, slots=True)
class Difference:
    """One inconsistency: its subject, and the problem."""

    subject: str
    problem: str


def begin_check(session: Session, *, timeout_seconds: float) -> None:
    """Make this transaction a read-only snapshot with its own time-out.

    It must be the first call in the transaction.
    """
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    session.execute(text("set transaction read only"))
    session.execute(
        text("select set_config('statement_timeout', :ms, true)"),
        {"ms": str(round(timeout_seconds * 1000))},
    )


def compare_jobs(
    session: Session, *, since: datetime | None, until: datetime | None
) -> Iterator[Difference]:
    """Compare the jobs that ended in a time range with its rows of usage."""
    rows = session.execute(
        _JOBS, {"since": since, "until": until}, execution_options={"yield_per": CHUNK}
    )
    for job_id, problem in rows:
        yield Difference(format_id(Prefix.JOB, job_id), problem)
    lost = session.scalars(
        _LOST_JOBS, {"since": since, "until": until}, execution_options={"yield_per": CHUNK}
    )
    for job_id in lost:
        yield Difference(format_id(Prefix.JOB, job_id), "is gone, and retention did not delete it")


def compare_batches(
    session: Session, *, since: datetime | None, until: datetime | None
) -> Iterator[Difference]:
    """Compare open batches, and those that ended in a time range, with their lines."""
    rows = session.execute(
        _BATCHES, {"since": since, "until": until}, execution_options={"yield_per": CHUNK}
    )
    for batch_id, problem in rows:
        yield Difference(format_id(Prefix.BATCH, batch_id), problem)


#: `is distinct from` counts a missing value as a value.
_JOBS = text(
    """
    with compared as (
        select j.id, j.state, j.started_at, u.job_id as used,
               j.state not in ('queued', 'running') as has_ended,
               array_remove(array[
                   case when u.state is distinct from j.state
                        then 'state ' || u.state || ', job ' || j.state end,
                   case when u.user_id is distinct from j.user_id then 'another user' end,
                   case when u.api_key_id is distinct from j.api_key_id then 'another key' end,
                   case when u.model is distinct from j.model then 'another model' end,
                   case when u.prompt_tokens is distinct from j.prompt_tokens
                        then 'prompt tokens ' || u.prompt_tokens || ', job ' || j.prompt_tokens end,
                   case when u.completion_tokens is distinct from j.completion_tokens
                        then 'completion tokens ' || u.completion_tokens || ', job '
                             || j.completion_tokens end,
                   case when u.cached_tokens is distinct from j.cached_tokens
                        then 'cached tokens ' || u.cached_tokens || ', job ' || j.cached_tokens end,
                   case when u.created_at is distinct from j.finished_at
                        then 'another time than the end of the job' end,
                   -- Workers of 0.1.0 counted the hours too that a line of a batch was held.
                   case when abs(u.duration_ms - extract(epoch from
                            j.finished_at - coalesce(j.released_at, j.created_at)) * 1000) > 1
                         and abs(u.duration_ms
                                 - extract(epoch from j.finished_at - j.created_at) * 1000) > 1
                        then 'another duration' end
               ], null) as faults
        from jobs j left join usage u on u.job_id = j.id
        where (j.finished_at is not null or u.job_id is not null)
          and (cast(:since as timestamptz) is null
               or j.finished_at >= :since or u.created_at >= :since)
          and (cast(:until as timestamptz) is null
               or j.finished_at < :until or u.created_at < :until)
    )
    select id, case
        when used is null then 'has no usage, although it had begun'
        when not has_ended then 'has usage, although it has not ended'
        when started_at is null then 'has usage, although it never began'
        else 'usage has ' || array_to_string(faults, '; ')
    end as problem
    from compared
    where (used is null and has_ended and started_at is not null)
       or (used is not null and (not has_ended or started_at is null or faults <> '{}'))
    order by id
    """
)

_LOST_JOBS = text(
    """
    select u.job_id from usage u left join jobs j on j.id = u.job_id
    where j.id is null
      and u.created_at >= coalesce((select jobs_until from retention_mark), '-infinity')
      and (cast(:since as timestamptz) is null or u.created_at >= :since)
      and (cast(:until as timestamptz) is null or u.created_at < :until)
    order by 1
    """
)

_COUNTS = ("total", *FINAL_STATES, *TOKEN_COUNTS)
_BATCHES = text(
    f"""
    with lines as (
        select batch_id, count(*) as total,
               count(*) filter (where state not in ('queued', 'running')) as ended,
               count(*) filter (where state = 'succeeded') as succeeded,
               count(*) filter (where state = 'failed') as failed,
               count(*) filter (where state = 'cancelled') as cancelled,
               count(*) filter (where state = 'expired') as expired,
               coalesce(sum(prompt_tokens) filter (where has_used), 0) as prompt_tokens,
               coalesce(sum(completion_tokens) filter (where has_used), 0) as completion_tokens,
               coalesce(sum(cached_tokens) filter (where has_used), 0) as cached_tokens
        from (
            select *, finished_at is not null and started_at is not null as has_used
            from jobs where batch_id is not null
        ) as j
        group by batch_id
    ), compared as (
        select b.id, array_remove(array[
            {
        ", ".join(
            f"case when b.{name} <> l.{name} "
            f"then '{name} ' || b.{name} || ', lines ' || l.{name} end"
            for name in _COUNTS
        )
    },
            case when l.batch_id is null then 'no lines' end,
            case when (b.finished_at is not null) <> (l.ended = l.total)
                 then 'state ' || b.state || ', lines that ended ' || l.ended end
        ], null) as faults
        from batches b left join lines l on l.batch_id = b.id
        where b.lines_deleted_at is null and (b.finished_at is null
           or ((cast(:since as timestamptz) is null or b.finished_at >= :since)
               and (cast(:until as timestamptz) is null or b.finished_at < :until)))
    )
    select id, 'the batch has ' || array_to_string(faults, '; ') as problem
    from compared where faults <> '{{}}' order by id
    """
)
