"""The roll-up of past hours and days of usage.

It saves reports from reading each key's hours.

The database dates the end of a job at the start of its transaction. This holds even if the database
was away when the job ended. So an hour gets no more ends once it has passed for longer than a
transaction lasts. The roll-up closes an hour `GRACE` after its end, by the same clock.
Only `bountycoder demo-data` writes rows of past hours, and it reopens them.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.calendar import day_of, hour_of, month_of
from models.database.base import database_now
from models.database.locks import ServiceLock, take_lock
from models.usage.usage import USAGE_COUNTS

#: Many times the duration of a transaction, which the settings of each connection bound.
GRACE = timedelta(minutes=10)
#: The limit of one step, which closes one day at most.
STEP_SECONDS = 120

_DAY = timedelta(days=1)
_KEY = ("api_key_id", "begins_at", "model", "user_id")
_ALL = ("begins_at", "model")


def roll_up_usage(session: Session, *, now: datetime | None = None) -> bool:
    """Close the next past hours, up to the end of their day; False if there are none."""
    connection = session.connection()
    now = now or database_now(session)
    connection.exec_driver_sql(f"set local statement_timeout = '{STEP_SECONDS}s'")
    take_lock(session, ServiceLock.USAGE_ROLLUP)
    since = session.scalar(text(_BEGIN))
    if since is None:
        return False
    day = day_of(since)
    until = min(hour_of(now - GRACE), day + _DAY)
    if until <= since:
        return False
    values = {"since": since, "until": until, "day": day, "month": month_of(day)}
    for statement in _CLOSE_HOURS:
        connection.exec_driver_sql(statement, values)
    if until == day + _DAY:
        for statement in (*(_FORGET_MONTHS if day.day == 1 else ()), *_CLOSE_DAY):
            connection.exec_driver_sql(statement, values)
    connection.exec_driver_sql(_MOVE, values)
    return True


def reopen_usage(session: Session, hour: datetime) -> None:
    """Reopen closed hours from `hour` on, because this transaction writes into them.

    A reopened day reopens its month too, because the sums of a month are added day by day.
    """
    take_lock(session, ServiceLock.USAGE_ROLLUP, is_shared=True)
    session.connection().exec_driver_sql(_REOPEN, {"hour": hour})


#: The first hour that is not closed; for a new service, the start of its first day.
_BEGIN = """
    insert into usage_closing (id, closed_until)
    select 1, date_trunc('day', min(hour), 'UTC') from usage_hourly having min(hour) is not null
    on conflict (id) do update set closed_until = usage_closing.closed_until
    returning closed_until
"""
_MOVE = "update usage_closing set closed_until = %(until)s"
_REOPEN = """
    update usage_closing set closed_until = case
        when %(hour)s >= date_trunc('day', closed_until, 'UTC') then %(hour)s
        else date_trunc('month', %(hour)s::timestamptz, 'UTC') end
    where closed_until > %(hour)s
"""


def _sum_up(target: str, columns: tuple[str, ...], rows: str) -> str:
    """Return the statement that writes the sums of `rows` and replaces existing ones."""
    group = ", ".join(columns)
    key = ", ".join(column for column in columns if column != "user_id")
    sums = ", ".join(f"sum({name}) as {name}" for name in USAGE_COUNTS)
    written = (*USAGE_COUNTS, "duration_counts")
    return f"""
        with rows_read as materialized ({rows}),
        sums as (select {group}, {sums} from rows_read group by {group}),
        buckets as (
            select {group}, bucket, sum(n) as n
            from (
                select {group}, generate_subscripts(duration_counts, 1) as bucket,
                    unnest(duration_counts) as n
                from rows_read
            ) as counted where n > 0 group by {group}, bucket
        ),
        durations as (
            select {group}, min(bucket) as low, max(bucket) as high,
                jsonb_object_agg(bucket, n) as counts
            from buckets group by {group}
        )
        insert into {target} ({group}, {", ".join(written)})
        select {group}, {", ".join(USAGE_COUNTS)}, coalesce((
            select ('[' || low || ':' || high || ']={{'
                || string_agg(coalesce(counts ->> b::text, '0'), ',' order by b)
                || '}}')::bigint[]
            from generate_series(low, high) as b
        ), '{{}}')
        from sums left join durations using ({group})
        on conflict ({key}) do update set
            {", ".join(f"{name} = excluded.{name}" for name in written)}
    """


def _read(table: str, columns: tuple[str, ...], where: str, begins_at: str = "begins_at") -> str:
    names = ", ".join(f"{begins_at} as begins_at" if c == "begins_at" else c for c in columns)
    counts = ", ".join(USAGE_COUNTS)
    return f"select {names}, {counts}, duration_counts::bigint[] from {table} where {where}"


_CLOSE_HOURS = (
    "delete from usage_total_hourly where begins_at >= %(since)s",
    _sum_up(
        "usage_total_hourly",
        _ALL,
        _read("usage_hourly", _ALL, "hour >= %(since)s and hour < %(until)s", "hour"),
    ),
)
_FORGET_MONTHS = ("delete from usage_monthly where begins_at >= %(month)s",)
_THIS_DAY = "begins_at = %(day)s"
_CLOSE_DAY = (
    "delete from usage_daily where begins_at >= %(day)s",
    _sum_up(
        "usage_daily",
        _KEY,
        _read("usage_hourly", _KEY, "hour >= %(day)s and hour < %(until)s", "%(day)s::timestamptz"),
    ),
    "delete from usage_total_daily where begins_at >= %(day)s",
    _sum_up(
        "usage_total_daily",
        _ALL,
        _read(
            "usage_total_hourly",
            _ALL,
            "begins_at >= %(day)s and begins_at < %(until)s",
            "%(day)s::timestamptz",
        ),
    ),
    _sum_up(
        "usage_monthly",
        _KEY,
        _read("usage_daily", _KEY, _THIS_DAY, "%(month)s::timestamptz")
        + " union all "
        + _read(
            "usage_monthly",
            _KEY,
            "begins_at = %(month)s and (api_key_id, model) in"
            f" (select api_key_id, model from usage_daily where {_THIS_DAY})",
        ),
    ),
)
