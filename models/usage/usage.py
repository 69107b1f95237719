"""Usage: one row per job, and the hourly roll-up.

The transaction of a job's end writes both. Dashboards and quotas read the roll-up; the rows are the
proof. The primary key of `usage` is the job's id, so a job that is delivered twice counts once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, ForeignKey, Index, Integer, String, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.histogram import bucket_of
from models.database.base import Base
from models.jobs.job import TOKEN_COUNTS, Job, JobState

#: The columns of every roll-up that are sums.
USAGE_COUNTS = ("requests", "succeeded", *TOKEN_COUNTS, "duration_ms")


class Usage(Base):
    """The usage of one job.

    There is no foreign key to the job: retention may delete jobs, and usage stays.

    Attributes:
        state: the final state of the job.
        duration_ms: from the creation of the job, or the release of a batch line, to its end.
    """

    __tablename__ = "usage"
    __table_args__ = (
        Index("ix_usage_api_key_id_created_at", "api_key_id", "created_at"),
        Index("ix_usage_created_at", "created_at"),
    )

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    api_key_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"))
    model: Mapped[str] = mapped_column(String(200))
    state: Mapped[str] = mapped_column(String(16))
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    duration_ms: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]


class UsageHourly(Base):
    """The sums of one key, model and hour (UTC).

    Attributes:
        duration_counts: the number of durations in each bucket of `core.histogram`. The subscript
            is the bucket; the array has the buckets from the first to the last used one.
    """

    __tablename__ = "usage_hourly"
    __table_args__ = (
        Index("ix_usage_hourly_hour", "hour"),
        Index("ix_usage_hourly_user_id_hour", "user_id", "hour"),
    )

    api_key_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(String(200), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    requests: Mapped[int] = mapped_column(BigInteger)
    succeeded: Mapped[int] = mapped_column(BigInteger)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger)
    duration_ms: Mapped[int] = mapped_column(BigInteger)
    duration_counts: Mapped[list[int | None]] = mapped_column(
        ARRAY(Integer), server_default=text("'{}'")
    )


#: The queries that follow a query `used` (rows of usage, each with its `bucket`). They insert the
#: rows, and add the new ones to the roll-up. The rows of the roll-up come last, because all jobs of
#: a key share them, and in the same order everywhere, so that transactions do not deadlock.
#: They are SQL because the ORM would compile a new statement for each number of rows.
RECORD_USED = f"""
    added as (
        insert into usage (
            job_id, user_id, api_key_id, model, state,
            prompt_tokens, completion_tokens, cached_tokens, duration_ms, created_at
        )
        select job_id, user_id, api_key_id, model, state,
               prompt_tokens, completion_tokens, cached_tokens, duration_ms, created_at
        from used
        on conflict do nothing
        returning job_id
    ),
    sums as (
        select api_key_id, date_trunc('hour', created_at, 'UTC') as hour, model, user_id,
               count(*) as requests,
               count(*) filter (where state = '{JobState.SUCCEEDED}') as succeeded,
               sum(prompt_tokens) as prompt_tokens, sum(completion_tokens) as completion_tokens,
               sum(cached_tokens) as cached_tokens, sum(duration_ms) as duration_ms,
               min(bucket) as low, max(bucket) as high, array_agg(bucket) as buckets
        from used join added using (job_id)
        group by api_key_id, hour, model, user_id
    ),
    rolled_up as (
        insert into usage_hourly as sums (
            api_key_id, hour, model, user_id, requests, succeeded,
            prompt_tokens, completion_tokens, cached_tokens, duration_ms, duration_counts
        )
        select api_key_id, hour, model, user_id, requests, succeeded,
               prompt_tokens, completion_tokens, cached_tokens, duration_ms,
               (
                   select format('[%s:%s]={{%s}}', low, high, string_agg(n::text, ',' order by i))
                   from (
                       select i, (select count(*) from unnest(buckets) as b where b = i) as n
                       from generate_series(low, high) as i
                   ) as counts
               )::integer[]
        from sums
        order by api_key_id, hour, model
        on conflict (api_key_id, hour, model) do update set
            requests = sums.requests + excluded.requests,
            succeeded = sums.succeeded + excluded.succeeded,
            prompt_tokens = sums.prompt_tokens + excluded.prompt_tokens,
            completion_tokens = sums.completion_tokens + excluded.completion_tokens,
            cached_tokens = sums.cached_tokens + excluded.cached_tokens,
            duration_ms = sums.duration_ms + excluded.duration_ms,
            duration_counts[
                array_lower(excluded.duration_counts, 1) : array_upper(excluded.duration_counts, 1)
            ] = (
                select array_agg(coalesce(sums.duration_counts[i], 0) + n order by i)
                from (
                    select generate_subscripts(excluded.duration_counts, 1) as i,
                           unnest(excluded.duration_counts) as n
                ) as added
            )
    )
"""
_RECORD = f"""
    with used as (
        select * from jsonb_to_recordset(%(rows)s::jsonb) as r (
            job_id uuid, user_id uuid, api_key_id uuid, model text, state text,
            prompt_tokens integer, completion_tokens integer, cached_tokens integer,
            duration_ms bigint, created_at timestamptz, bucket integer
        )
    ),
    {RECORD_USED.replace("%", "%%")}
    select
"""


def record_usages(session: Session, jobs: Sequence[Job]) -> None:
    """Write the usage of jobs that have just ended, once each.

    Make it the last statement of the transaction: all jobs of a key share the rows of the roll-up,
    and the statement locks these rows until the commit.
    """
    rows = [_usage_of(job) for job in jobs]
    if rows:
        values = {"rows": json.dumps(rows, default=str)}
        session.connection().exec_driver_sql(_RECORD, values)


def used_time(queued_at: datetime, finished_at: datetime) -> dict[str, int]:
    """Return the duration of a job, and its bucket, as columns of usage."""
    milliseconds = round((finished_at - queued_at).total_seconds() * 1000)
    return {"duration_ms": milliseconds, "bucket": bucket_of(milliseconds)}


def _usage_of(job: Job) -> dict[str, Any]:
    if job.finished_at is None:
        raise ValueError(f"job {job.id} has not ended")
    return {
        "job_id": job.id,
        "user_id": job.user_id,
        "api_key_id": job.api_key_id,
        "model": job.model,
        "state": job.state,
        "created_at": job.finished_at,
        "prompt_tokens": job.prompt_tokens,
        "completion_tokens": job.completion_tokens,
        "cached_tokens": job.cached_tokens,
        **used_time(job.queued_at, job.finished_at),
    }
