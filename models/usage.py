"""Usage: one row a job, append-only, and its hourly roll-up, written in the job's own transaction.

Dashboards and quotas read the roll-up; the rows are the proof. The primary key of `usage` is the
job's id, so that whatever is delivered twice is counted once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, ForeignKey, Index, Integer, String, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.duration_buckets import bucket_of
from models.base import Base
from models.job import Job, JobState
from models.usage_closing import is_late, reopen_usage


class Usage(Base):
    """What one job used. `state` is the final state of the job; `duration_ms` from its creation.

    No foreign key to the job: retention may delete jobs, and what was used stays.
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
        duration_counts: how many durations fell into each bucket of `core.duration_buckets`; the
            subscript is the bucket, and only buckets between the first and the last used are kept.
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


#: In SQL, because the ORM would compile a statement anew for each number of rows; handed to the
#: driver as they are, because all jobs end with them.
_ADD = """
    insert into usage (
        job_id, user_id, api_key_id, model, state,
        prompt_tokens, completion_tokens, cached_tokens, duration_ms, created_at
    )
    select job_id, user_id, api_key_id, model, state,
           prompt_tokens, completion_tokens, cached_tokens, duration_ms, created_at
    from jsonb_populate_recordset(cast(null as usage), %(rows)s::jsonb)
    on conflict do nothing
    returning job_id
"""
#: In SQL, because only so some elements of an array are raised in the same statement.
_ROLL_UP = """
    insert into usage_hourly as sums (
        api_key_id, hour, model, user_id, requests, succeeded,
        prompt_tokens, completion_tokens, cached_tokens, duration_ms, duration_counts
    ) values (
        %(api_key_id)s, %(hour)s, %(model)s, %(user_id)s, %(requests)s, %(succeeded)s,
        %(prompt_tokens)s, %(completion_tokens)s, %(cached_tokens)s, %(duration_ms)s,
        %(duration_counts)s::integer[]
    )
    on conflict (api_key_id, hour, model) do update set
        requests = sums.requests + excluded.requests,
        succeeded = sums.succeeded + excluded.succeeded,
        prompt_tokens = sums.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = sums.completion_tokens + excluded.completion_tokens,
        cached_tokens = sums.cached_tokens + excluded.cached_tokens,
        duration_ms = sums.duration_ms + excluded.duration_ms,
        duration_counts[%(low)s : %(high)s] = (
            select array_agg(
                coalesce(sums.duration_counts[i], 0) + coalesce(excluded.duration_counts[i], 0)
                order by i
            )
            from generate_series(%(low)s, %(high)s) as i
        )
"""


def record_usages(session: Session, jobs: Sequence[Job]) -> None:
    """Write the usage of jobs that have just ended, once each. Make it the transaction's last
    statement: the roll-up's rows are shared by all jobs of a key, and locked until the commit.
    """
    rows = [_usage_of(job) for job in jobs]
    if not rows:
        return
    connection = session.connection()
    found = connection.exec_driver_sql(_ADD, {"rows": json.dumps(rows, default=str)})
    added = {job_id for (job_id,) in found}
    sums: dict[tuple[UUID, datetime, str], _Sums] = {}
    for row in rows:
        if row["job_id"] in added:
            hour = row["created_at"].replace(minute=0, second=0, microsecond=0)
            key = (row["api_key_id"], hour, row["model"])
            sums.setdefault(key, _Sums(row["user_id"])).add(row)
    first = min((hour for _, hour, _ in sums), default=None)
    if first is not None and is_late(first):
        reopen_usage(session, first)
    for key in sorted(sums):  # in one order everywhere: two transactions must not cross
        connection.exec_driver_sql(_ROLL_UP, sums[key].values(*key))


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
        "duration_ms": round((job.finished_at - job.created_at).total_seconds() * 1000),
    }


_SUMMED = ("prompt_tokens", "completion_tokens", "cached_tokens", "duration_ms")


@dataclass(slots=True)
class _Sums:
    """What some rows of usage add to one row of the roll-up."""

    user_id: UUID
    requests: int = 0
    succeeded: int = 0
    totals: Counter[str] = field(default_factory=Counter)
    buckets: Counter[int] = field(default_factory=Counter)

    def add(self, row: dict[str, Any]) -> None:
        self.requests += 1
        self.succeeded += row["state"] == JobState.SUCCEEDED
        self.totals.update({name: row[name] for name in _SUMMED})
        self.buckets[bucket_of(row["duration_ms"])] += 1

    def values(self, api_key_id: UUID, hour: datetime, model: str) -> dict[str, Any]:
        """Return what `_ROLL_UP` takes; an array is written with its bounds, the buckets."""
        low, high = min(self.buckets), max(self.buckets)
        counts = ",".join(str(self.buckets[bucket]) for bucket in range(low, high + 1))
        return {
            "api_key_id": api_key_id,
            "hour": hour,
            "model": model,
            "user_id": self.user_id,
            "requests": self.requests,
            "succeeded": self.succeeded,
            "low": low,
            "high": high,
            "duration_counts": f"[{low}:{high}]={{{counts}}}",
            **{name: self.totals[name] for name in _SUMMED},
        }
