"""Do jobs, usage, roll-ups and batches agree, row for row.

The rule: a job that has ended and had begun has exactly one row of usage, with its counts and its
state; a job that never began has none; each roll-up is the sum of its rows, and each sum of a
closed hour, day or month that of its roll-ups. A row of usage whose job is gone is right if
retention deleted the jobs of its time: what was used stays. A batch's sums are those of its lines
that have ended, with the tokens of those that ever began; it has ended when all have.

Everything is read in one snapshot, so that a running service does not look wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from core.histogram import BOUNDS
from core.ids import Prefix, show_id

#: Rows that are fetched at once.
_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it should be: what it is of, and what is wrong with it."""

    subject: str
    problem: str


def begin_check(session: Session, *, timeout_seconds: float) -> None:
    """Make this transaction one unchanging, read-only look at the database with its own time-out.

    Call it before anything else.
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
    """Compare jobs that ended in a time, and rows of usage written in it, one with the other."""
    rows = session.execute(
        _JOBS, {"since": since, "until": until}, execution_options={"yield_per": _CHUNK}
    )
    for job_id, problem in rows:
        yield Difference(show_id(Prefix.JOB, job_id), problem)
    lost = session.scalars(
        _LOST_JOBS, {"since": since, "until": until}, execution_options={"yield_per": _CHUNK}
    )
    for job_id in lost:
        yield Difference(show_id(Prefix.JOB, job_id), "is gone, and retention did not delete it")


def compare_roll_ups(
    session: Session, *, since: datetime | None, until: datetime | None
) -> Iterator[Difference]:
    """Compare the sums of rows with the roll-ups of whole hours."""
    rows = session.execute(
        _ROLL_UPS,
        {"since": since, "until": until, "bounds": list(BOUNDS)},
        execution_options={"yield_per": _CHUNK},
    )
    for key_id, hour, model, problem in rows:
        yield Difference(f"{show_id(Prefix.KEY, key_id)} {hour:%Y-%m-%dT%H}Z {model}", problem)


def compare_batches(
    session: Session, *, since: datetime | None, until: datetime | None
) -> Iterator[Difference]:
    """Compare the sums of batches that ended in a time, or have not ended, with their lines."""
    rows = session.execute(
        _BATCHES, {"since": since, "until": until}, execution_options={"yield_per": _CHUNK}
    )
    for batch_id, problem in rows:
        yield Difference(show_id(Prefix.BATCH, batch_id), problem)


def compare_closed(session: Session) -> Iterator[Difference]:
    """Compare the sums of closed hours, days and months with the roll-ups of hours, all of them."""
    for table, unit, is_by_key in (
        ("usage_total_hourly", "hour", False),
        ("usage_total_daily", "day", False),
        ("usage_daily", "day", True),
        ("usage_monthly", "month", True),
    ):
        rows = session.execute(_closed(table, unit, is_by_key=is_by_key))
        for key_id, begins_at, model, problem in rows:
            of = show_id(Prefix.KEY, key_id) if key_id else "all keys"
            yield Difference(f"{of} {begins_at:%Y-%m-%dT%H}Z {model}", f"the {unit} has {problem}")


def _closed(table: str, unit: str, *, is_by_key: bool) -> TextClause:
    """Return the statement that compares one table; counts of durations as texts, without zeros."""
    key = "api_key_id, user_id" if is_by_key else "null::uuid as api_key_id, null::uuid as user_id"
    closed = "(select closed_until from usage_closing)"
    if unit != "hour":
        closed = f"date_trunc('day', {closed}, 'UTC')"
    sums = ", ".join(f"sum({name}) as {name}" for name in _COUNTED)
    faults = ", ".join(
        f"case when s.{name} is distinct from k.{name} then '{name} '"
        f" || coalesce(k.{name}::text, 'none') || ', hours '"
        f" || coalesce(s.{name}::text, 'none') end"
        for name in (*_COUNTED, "user_id", "durations")
    )
    return text(
        f"""
        with source as (
            select {key}, date_trunc('{unit}', hour, 'UTC') as begins_at, model,
                {", ".join(_COUNTED)}, duration_counts::bigint[]
            from usage_hourly where hour < {closed}
        ), summed as (
            select api_key_id, user_id, begins_at, model, {sums}
            from source group by 1, 2, 3, 4
        ), durations as (
            select api_key_id, begins_at, model,
                string_agg(bucket || 'x' || n, ' ' order by bucket) as durations
            from (
                select api_key_id, begins_at, model, bucket, sum(n) as n
                from (
                    select api_key_id, begins_at, model,
                        generate_subscripts(duration_counts, 1) as bucket,
                        unnest(duration_counts) as n
                    from source
                ) as counted where n > 0 group by 1, 2, 3, 4
            ) as buckets group by 1, 2, 3
        ), expected as (
            select summed.*, durations from summed left join durations d
            on coalesce(d.api_key_id, '{_NO_KEY}') = coalesce(summed.api_key_id, '{_NO_KEY}')
                and d.begins_at = summed.begins_at and d.model = summed.model
        ), kept as (
            select {key}, begins_at, model, {", ".join(_COUNTED)}, (
                select string_agg(b || 'x' || duration_counts[b], ' ' order by b)
                from generate_subscripts(duration_counts, 1) as b where duration_counts[b] > 0
            ) as durations
            from {table} where begins_at < {closed}
        ), compared as (
            select coalesce(s.api_key_id, k.api_key_id) as api_key_id,
                coalesce(s.begins_at, k.begins_at) as begins_at,
                coalesce(s.model, k.model) as model,
                array_remove(array[{faults}], null) as faults
            from expected s full join kept k
            on coalesce(k.api_key_id, '{_NO_KEY}') = coalesce(s.api_key_id, '{_NO_KEY}')
                and k.begins_at = s.begins_at and k.model = s.model
        )
        select api_key_id, begins_at, model, array_to_string(faults, '; ')
        from compared where faults <> '{{}}' order by 2, 1, 3
        """
    )


#: What is summed, of every level.
_COUNTED = (
    "requests",
    "succeeded",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "duration_ms",
)
#: Stands for none where keys are compared: a full join needs one plain comparison.
_NO_KEY = "00000000-0000-0000-0000-000000000000"

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

_ROLL_UPS = text(
    """
    with buckets as (
        select api_key_id, date_trunc('hour', created_at, 'UTC') as hour, model, user_id,
               width_bucket(duration_ms, cast(:bounds as bigint[])) as bucket,
               count(*) as requests, count(*) filter (where state = 'succeeded') as succeeded,
               sum(prompt_tokens) as prompt_tokens, sum(completion_tokens) as completion_tokens,
               sum(cached_tokens) as cached_tokens, sum(duration_ms) as duration_ms
        from usage
        where (cast(:since as timestamptz) is null or created_at >= :since)
          and (cast(:until as timestamptz) is null or created_at < :until)
        group by 1, 2, 3, 4, 5
    ), rows_summed as (
        select api_key_id, hour, model, user_id, sum(requests) as requests,
               sum(succeeded) as succeeded, sum(prompt_tokens) as prompt_tokens,
               sum(completion_tokens) as completion_tokens, sum(cached_tokens) as cached_tokens,
               sum(duration_ms) as duration_ms,
               array_agg(bucket || 'x' || requests order by bucket) as durations
        from buckets group by 1, 2, 3, 4
    ), kept as (
        select h.*, (
            select array_agg(b || 'x' || h.duration_counts[b] order by b)
            from generate_subscripts(h.duration_counts, 1) as b where h.duration_counts[b] > 0
        ) as durations
        from usage_hourly h
        where (cast(:since as timestamptz) is null or hour >= :since)
          and (cast(:until as timestamptz) is null or hour < :until)
    ), compared as (
        select coalesce(s.api_key_id, k.api_key_id) as api_key_id,
               coalesce(s.hour, k.hour) as hour, coalesce(s.model, k.model) as model,
               s.api_key_id is null as has_no_rows, k.api_key_id is null as has_no_roll_up,
               array_remove(array[
                   case when s.user_id is distinct from k.user_id then 'another user' end,
                   case when s.requests is distinct from k.requests
                        then 'requests ' || k.requests || ', rows ' || s.requests end,
                   case when s.succeeded is distinct from k.succeeded
                        then 'succeeded ' || k.succeeded || ', rows ' || s.succeeded end,
                   case when s.prompt_tokens is distinct from k.prompt_tokens
                        then 'prompt tokens ' || k.prompt_tokens || ', rows '
                             || s.prompt_tokens end,
                   case when s.completion_tokens is distinct from k.completion_tokens
                        then 'completion tokens ' || k.completion_tokens || ', rows '
                             || s.completion_tokens end,
                   case when s.cached_tokens is distinct from k.cached_tokens
                        then 'cached tokens ' || k.cached_tokens || ', rows '
                             || s.cached_tokens end,
                   case when s.duration_ms is distinct from k.duration_ms
                        then 'milliseconds ' || k.duration_ms || ', rows ' || s.duration_ms end,
                   case when s.durations is distinct from k.durations
                        then 'other counts of durations' end
               ], null) as faults
        from rows_summed s
        full join kept k on k.api_key_id = s.api_key_id and k.hour = s.hour and k.model = s.model
    )
    select api_key_id, hour, model, case
        when has_no_roll_up then 'rows without a roll-up'
        when has_no_rows then 'a roll-up without rows'
        else 'the roll-up has ' || array_to_string(faults, '; ')
    end as problem
    from compared
    where has_no_rows or has_no_roll_up or faults <> '{}'
    order by 1, 2, 3
    """
)

_SUMS = (
    "total",
    "succeeded",
    "failed",
    "cancelled",
    "expired",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
)
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
            for name in _SUMS
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
