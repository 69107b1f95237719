"""Usage: one row a job, append-only, and its hourly roll-up, written in the job's own transaction.

Dashboards and quotas read the roll-up; the rows are the proof. The primary key of `usage` is the
job's id, so that whatever is delivered twice is counted once.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.base import Base
from models.job import Job, JobState


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
    """The sums of one key, model and hour (UTC)."""

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


def record_usage(session: Session, job: Job) -> None:
    """Write the usage of a job that has just ended, once. Make it the transaction's last statement:

    the roll-up's row is shared by all jobs of a key, and its lock is held until the commit.
    """
    if job.finished_at is None:
        raise ValueError(f"job {job.id} has not ended")
    used = {
        "prompt_tokens": job.prompt_tokens,
        "completion_tokens": job.completion_tokens,
        "cached_tokens": job.cached_tokens,
        "duration_ms": round((job.finished_at - job.created_at).total_seconds() * 1000),
    }
    owner = {"user_id": job.user_id, "api_key_id": job.api_key_id, "model": job.model}
    row = insert(Usage).values(
        job_id=job.id, state=job.state, created_at=job.finished_at, **owner, **used
    )
    inserted = session.scalar(row.on_conflict_do_nothing().returning(Usage.job_id))
    if inserted is None:
        return
    hour = job.finished_at.replace(minute=0, second=0, microsecond=0)
    counts = {"requests": 1, "succeeded": int(job.state == JobState.SUCCEEDED), **used}
    rollup = insert(UsageHourly).values(hour=hour, **owner, **counts)
    session.execute(
        rollup.on_conflict_do_update(
            index_elements=["api_key_id", "hour", "model"],
            set_={
                name: getattr(UsageHourly, name) + getattr(rollup.excluded, name) for name in counts
            },
        )
    )
