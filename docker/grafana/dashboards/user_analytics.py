"""User Analytics: usage by user and key, from the hourly roll-up.

Reads PostgreSQL as a role that can read only these columns: metrics have no labels of customers.
"""

from __future__ import annotations

from docker.grafana.dashboards.board import Board, Row
from docker.grafana.dashboards.panel import bars, figure, lines, rows
from docker.grafana.dashboards.query import sql

_DAYS = """
from generate_series(
    date_trunc('day', cast($__timeFrom() as timestamptz), 'UTC'),
    cast($__timeTo() as timestamptz),
    interval '1 day'
) as days(day)"""

BOARD = Board(
    uid="user-analytics",
    title="User Analytics",
    description="Users, keys and their tokens; days in UTC.",
    since="now-30d",
    refresh="5m",
    rows=[
        Row(
            "In this time",
            [
                figure(
                    "Users",
                    "Now.",
                    "short",
                    sql("select count(*) as users from users where deleted_at is null"),
                ),
                figure(
                    "Users with jobs",
                    "Whose jobs ended in this time.",
                    "short",
                    sql(
                        "select count(distinct user_id) as users from usage_hourly"
                        " where $__timeFilter(hour)"
                    ),
                ),
                figure(
                    "Keys",
                    "Now.",
                    "short",
                    sql("select count(*) as keys from api_keys where deleted_at is null"),
                ),
                figure(
                    "Keys with jobs",
                    "Whose jobs ended in this time.",
                    "short",
                    sql(
                        "select count(distinct api_key_id) as keys from usage_hourly"
                        " where $__timeFilter(hour)"
                    ),
                ),
                figure(
                    "Jobs",
                    "That ended in this time.",
                    "short",
                    sql(
                        "select coalesce(sum(requests), 0) as jobs from usage_hourly"
                        " where $__timeFilter(hour)"
                    ),
                ),
                figure(
                    "Tokens",
                    "Of prompts and completions in this time.",
                    "short",
                    sql(
                        "select coalesce(sum(prompt_tokens + completion_tokens), 0) as tokens"
                        " from usage_hourly where $__timeFilter(hour)"
                    ),
                ),
            ],
        ),
        Row(
            "User growth",
            [
                lines(
                    "Users",
                    "At the end of each day.",
                    "short",
                    sql(
                        f"""
select day as "time", (
    select count(*) from users
    where created_at < day + interval '1 day'
        and (deleted_at is null or deleted_at >= day + interval '1 day')
) as "users" {_DAYS}
order by day"""  # noqa: S608 - built from constants
                    ),
                    is_stepped=True,
                ),
                bars(
                    "New users",
                    "Each day.",
                    "short",
                    sql(
                        """
select date_trunc('day', created_at, 'UTC') as "time", count(*) as "new users"
from users
where $__timeFilter(created_at)
group by 1 order by 1"""
                    ),
                    span=8,
                ),
                bars(
                    "Users and keys in use",
                    "Whose jobs ended on that day.",
                    "short",
                    sql(
                        """
select date_trunc('day', hour, 'UTC') as "time",
    count(distinct user_id) as "users", count(distinct api_key_id) as "keys"
from usage_hourly
where $__timeFilter(hour)
group by 1 order by 1"""
                    ),
                    span=8,
                    is_stacked=False,
                ),
            ],
        ),
        Row(
            "Token consumption",
            [
                bars(
                    "Tokens by kind",
                    "Each day.",
                    "short",
                    sql(
                        """
select date_trunc('day', hour, 'UTC') as "time",
    sum(prompt_tokens - cached_tokens) as "of prompts",
    sum(cached_tokens) as "of prompts, from the cache",
    sum(completion_tokens) as "generated"
from usage_hourly
where $__timeFilter(hour)
group by 1 order by 1"""
                    ),
                ),
                lines(
                    "Tokens by hour",
                    "Of prompts and completions.",
                    "short",
                    sql(
                        """
select hour as "time", sum(prompt_tokens + completion_tokens) as "tokens"
from usage_hourly
where $__timeFilter(hour)
group by 1 order by 1"""
                    ),
                    span=12,
                ),
                lines(
                    "Success rate",
                    "Share of jobs that succeeded, each day.",
                    "percentunit",
                    sql(
                        """
select date_trunc('day', hour, 'UTC') as "time",
    cast(sum(succeeded) as double precision) / sum(requests) as "succeeded"
from usage_hourly
where $__timeFilter(hour)
group by 1 order by 1"""
                    ),
                    span=12,
                    max_value=1,
                ),
                lines(
                    "Mean time of jobs",
                    "From the request to the end, each day.",
                    "ms",
                    sql(
                        """
select date_trunc('day', hour, 'UTC') as "time", sum(duration_ms) / sum(requests) as "mean"
from usage_hourly
where $__timeFilter(hour)
group by 1 order by 1"""
                    ),
                    span=12,
                ),
            ],
        ),
        Row(
            "Highest usage",
            [
                rows(
                    "Top users",
                    "By tokens in this time.",
                    sql(
                        """
select u.email as "user",
    sum(h.prompt_tokens + h.completion_tokens) as "tokens",
    sum(h.requests) as "jobs",
    cast(sum(h.succeeded) as double precision) / sum(h.requests) as "succeeded",
    count(distinct h.api_key_id) as "keys"
from usage_hourly h
join users u on u.id = h.user_id
where $__timeFilter(h.hour)
group by u.id, u.email
order by 2 desc
limit 20"""
                    ),
                    units={"succeeded": "percentunit"},
                ),
                rows(
                    "Top keys",
                    "By tokens in this time.",
                    sql(
                        """
select k.name as "key", u.email as "user",
    sum(h.prompt_tokens + h.completion_tokens) as "tokens",
    sum(h.requests) as "jobs",
    cast(sum(h.succeeded) as double precision) / sum(h.requests) as "succeeded"
from usage_hourly h
join api_keys k on k.id = h.api_key_id
join users u on u.id = h.user_id
where $__timeFilter(h.hour)
group by k.id, k.name, u.email
order by 3 desc
limit 20"""
                    ),
                    units={"succeeded": "percentunit"},
                ),
            ],
        ),
        Row(
            "Use of limits",
            [
                rows(
                    "Month's tokens",
                    "Used share of each monthly limit in this month.",
                    sql(
                        """
select k.name as "key", u.email as "user",
    coalesce(sum(h.prompt_tokens + h.completion_tokens), 0) as "tokens",
    k.monthly_token_limit as "limit",
    cast(coalesce(sum(h.prompt_tokens + h.completion_tokens), 0) as double precision)
        / k.monthly_token_limit as "used"
from api_keys k
join users u on u.id = k.user_id
left join usage_hourly h
    on h.api_key_id = k.id and h.hour >= date_trunc('month', now(), 'UTC')
where k.monthly_token_limit is not null and k.deleted_at is null
group by k.id, k.name, u.email, k.monthly_token_limit
order by 5 desc
limit 20"""
                    ),
                    span=8,
                    units={"used": "percentunit"},
                ),
                rows(
                    "Requests a minute",
                    "Each key's busiest hour in this time, against its limit.",
                    sql(
                        """
select k.name as "key", u.email as "user",
    max(h.requests) / 60.0 as "a minute", k.rate_limit as "limit",
    max(h.requests) / 60.0 / k.rate_limit as "used"
from (
    select api_key_id, hour, sum(requests) as requests
    from usage_hourly
    where $__timeFilter(hour)
    group by api_key_id, hour
) h
join api_keys k on k.id = h.api_key_id
join users u on u.id = k.user_id
where k.deleted_at is null
group by k.id, k.name, u.email, k.rate_limit
order by 5 desc
limit 20"""
                    ),
                    span=8,
                    units={"used": "percentunit"},
                ),
                rows(
                    "Unused keys",
                    "Active, and not used in this time.",
                    sql(
                        """
select k.name as "key", u.email as "user", k.created_at as "made", k.last_used_at as "last used"
from api_keys k
join users u on u.id = k.user_id
where k.is_active and k.deleted_at is null and not exists (
    select from usage_hourly h where h.api_key_id = k.id and $__timeFilter(h.hour)
)
order by k.last_used_at nulls first
limit 20"""
                    ),
                    span=8,
                    units={"made": "dateTimeAsIso", "last used": "dateTimeAsIso"},
                ),
            ],
        ),
    ],
)
