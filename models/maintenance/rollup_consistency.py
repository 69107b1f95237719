"""Compares each level of the usage roll-ups with the level below it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from core.histogram import BOUNDS
from core.ids import Prefix, format_id
from models.maintenance.consistency import CHUNK, Difference
from models.usage.usage import USAGE_COUNTS


def compare_roll_ups(
    session: Session, *, since: datetime | None, until: datetime | None
) -> Iterator[Difference]:
    """Compare the hourly roll-ups with the sums of the rows of usage."""
    rows = session.execute(
        _ROLL_UPS,
        {"since": since, "until": until, "bounds": list(BOUNDS)},
        execution_options={"yield_per": CHUNK},
    )
    for key_id, hour, model, problem in rows:
        yield Difference(f"{format_id(Prefix.KEY, key_id)} {hour:%Y-%m-%dT%H}Z {model}", problem)


def compare_closed(session: Session) -> Iterator[Difference]:
    """Compare the roll-ups of closed times with the roll-ups of hours and keys.

    Closed times are hours, days and months.
    """
    for table, unit, is_by_key in (
        ("usage_total_hourly", "hour", False),
        ("usage_total_daily", "day", False),
        ("usage_daily", "day", True),
        ("usage_monthly", "month", True),
    ):
        rows = session.execute(_closed(table, unit, is_by_key=is_by_key))
        for key_id, begins_at, model, problem in rows:
            of = format_id(Prefix.KEY, key_id) if key_id else "all keys"
            yield Difference(f"{of} {begins_at:%Y-%m-%dT%H}Z {model}", f"the {unit} has {problem}")


def _closed(table: str, unit: str, *, is_by_key: bool) -> TextClause:
    """Return the statement that compares one table.

    It compares the counts of durations as texts without zeros.
    """
    key = "api_key_id, user_id" if is_by_key else "null::uuid as api_key_id, null::uuid as user_id"
    closed = "(select closed_until from usage_closing)"
    if unit != "hour":
        closed = f"date_trunc('day', {closed}, 'UTC')"
    sums = ", ".join(f"sum({name}) as {name}" for name in USAGE_COUNTS)
    faults = ", ".join(
        f"case when s.{name} is distinct from k.{name} then '{name} '"
        f" || coalesce(k.{name}::text, 'none') || ', hours '"
        f" || coalesce(s.{name}::text, 'none') end"
        for name in (*USAGE_COUNTS, "user_id", "durations")
    )
    return text(
        f"""
        with source as (
            select {key}, date_trunc('{unit}', hour, 'UTC') as begins_at, model,
                {", ".join(USAGE_COUNTS)}, duration_counts::bigint[]
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
            select {key}, begins_at, model, {", ".join(USAGE_COUNTS)}, (
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


#: Replaces NULL as a key in the comparison: a full join needs one plain condition.
_NO_KEY = "00000000-0000-0000-0000-000000000000"

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
