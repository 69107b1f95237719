"""Jobs: one generation each, from `queued` to one final state.

    queued → running → succeeded | failed | cancelled
    queued → failed | cancelled | expired
    running → queued    (its worker died or was drained; at most `max_attempts` times)

The row is the truth about a job. A job expires only if it has never begun. A running job with a
cancel request never returns to the queue. Its worker ends it, or the reaper ends it after its lease
has expired.

Each change is one conditional UPDATE that names the previous state. A change from `running` also
names the attempt. So a worker whose lease expired cannot change a job that another one has claimed.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Index,
    SmallInteger,
    String,
    func,
    inspect,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, Session, configure_mappers, mapped_column

from core.ids import new_id
from models.database.base import Base


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        return not _NEXT[self]


_NEXT: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset(
        {JobState.RUNNING, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED}
    ),
    JobState.RUNNING: frozenset(
        {JobState.QUEUED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    ),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.EXPIRED: frozenset(),
}

#: The final states.
FINAL_STATES = tuple(state for state in JobState if state.is_final)
#: The columns of a job, and of all sums of jobs, that count tokens.
TOKEN_COUNTS = ("prompt_tokens", "completion_tokens", "cached_tokens")


def may_become(old: JobState, new: JobState) -> bool:
    """Say whether a job may change from `old` to `new`."""
    return new in _NEXT[old]


class Job(Base):
    """One generation.

    Attributes:
        queue: `interactive` or `bulk`.
        priority: the weight of the key's share in the engine at the job's creation.
        request: the validated request as the worker needs it.
        choices: the choices of the completion, if the job succeeded or was cancelled midway.
        error: `{code, message}` of a failed job.
        charged_tokens: tokens charged to the key's limits at the job's creation. The end of the
            job returns unused ones.
        batch_id: the batch of a batch line; `line` is its number (from 1), and `custom_id` is the
            caller's name for it.
        is_held: the dispatcher has not released the batch line, which is on no queue and not
            charged.
        released_at: when the dispatcher released the batch line, which was on no queue before.
        queued_at: when the wait began: the release, or else the creation. All waits and durations
            that are shown, measured or summed begin here.
        is_streamed: a client follows the text during its generation.
        is_cached: the response cache supplied the completion, without the model.
        cancel_requested_at: when the cancellation of the running job was requested.
        expires_at: when the job expires unless it has begun.
        texts_deleted_at: when retention deleted the texts of the request and the completion.
        attempt: the number of attempts so far.
        lease_expires_at: after this time the worker counts as lost, unless it renewed the lease.
        request_id: the id of the HTTP request that created the job, for the logs.
        traceparent: the `traceparent` (W3C Trace Context) of that request's span, if it is traced.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(
            "state in ('queued','running','succeeded','failed','cancelled','expired')",
            name="state",
        ),
        CheckConstraint("queue in ('interactive','bulk')", name="queue"),
        CheckConstraint("(batch_id is null) = (line is null)", name="line"),
        # Lists of jobs omit batch lines, and so do their indexes.
        Index("ix_jobs_user_id_id", "user_id", "id", postgresql_where=text("batch_id is null")),
        Index(
            "ix_jobs_api_key_id_id", "api_key_id", "id", postgresql_where=text("batch_id is null")
        ),
        Index("ix_jobs_queued", "id", postgresql_where=text("state = 'queued' and not is_held")),
        Index(
            "ix_jobs_batch_id_line",
            "batch_id",
            "line",
            unique=True,
            postgresql_where=text("batch_id is not null"),
        ),
        # Waiting and running lines of a batch, without ended ones.
        Index(
            "ix_jobs_held",
            "batch_id",
            "line",
            postgresql_where=text("state = 'queued' and is_held"),
        ),
        Index(
            "ix_jobs_released",
            "batch_id",
            "state",
            postgresql_where=text(
                "batch_id is not null and not is_held and state in ('queued', 'running')"
            ),
        ),
        # Finds the few unsuccessful jobs among a million that succeeded.
        Index(
            "ix_jobs_unsuccessful",
            "state",
            "id",
            postgresql_where=text(
                "batch_id is null and state in ('failed', 'cancelled', 'expired')"
            ),
        ),
        Index(
            "ix_jobs_user_id_unsuccessful",
            "user_id",
            "state",
            "id",
            postgresql_where=text(
                "batch_id is null and state in ('failed', 'cancelled', 'expired')"
            ),
        ),
        Index(
            "ix_jobs_batch_id_unsuccessful",
            "batch_id",
            "state",
            "line",
            postgresql_where=text(
                "batch_id is not null and state in ('failed', 'cancelled', 'expired')"
            ),
        ),
        # The same for the lines of all batches.
        Index(
            "ix_jobs_lines_unsuccessful",
            "state",
            "id",
            postgresql_where=text(
                "batch_id is not null and state in ('failed', 'cancelled', 'expired')"
            ),
        ),
        Index(
            "ix_jobs_user_id_lines_unsuccessful",
            "user_id",
            "state",
            "id",
            postgresql_where=text(
                "batch_id is not null and state in ('failed', 'cancelled', 'expired')"
            ),
        ),
        Index("ix_jobs_leases", "lease_expires_at", postgresql_where=text("state = 'running'")),
        # The jobs that retention deletes; it deletes lines with their batch.
        Index(
            "ix_jobs_finished_at",
            "finished_at",
            postgresql_where=text("batch_id is null and finished_at is not null"),
        ),
        Index(
            "ix_jobs_expiring",
            "expires_at",
            postgresql_where=text("state = 'queued' and expires_at is not null"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    api_key_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"))
    queue: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16), default=JobState.QUEUED)
    priority: Mapped[int] = mapped_column(SmallInteger, default=1, server_default=text("1"))
    model: Mapped[str] = mapped_column(String(200))
    request: Mapped[dict[str, Any]] = mapped_column(JSONB)
    choices: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    prompt_tokens: Mapped[int] = mapped_column(default=0)
    completion_tokens: Mapped[int] = mapped_column(default=0)
    cached_tokens: Mapped[int] = mapped_column(default=0)
    charged_tokens: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    batch_id: Mapped[UUID | None] = mapped_column(ForeignKey("batches.id"))
    line: Mapped[int | None]
    custom_id: Mapped[str | None] = mapped_column(String(512))
    is_held: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    released_at: Mapped[datetime | None]
    is_streamed: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    is_cached: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    attempt: Mapped[int] = mapped_column(default=0)
    worker_id: Mapped[str | None] = mapped_column(String(64))
    request_id: Mapped[str] = mapped_column(String(128), default="")
    traceparent: Mapped[str | None] = mapped_column(String(55))
    created_at: Mapped[datetime] = mapped_column(default=func.now())
    started_at: Mapped[datetime | None]
    first_token_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    lease_expires_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    texts_deleted_at: Mapped[datetime | None]

    @hybrid_property
    def queued_at(self) -> datetime:
        return self.released_at or self.created_at

    @queued_at.inplace.expression
    @classmethod
    def _queued_at(cls) -> ColumnElement[datetime]:
        return func.coalesce(cls.released_at, cls.created_at)

    @property
    def is_final(self) -> bool:
        return JobState(self.state).is_final


def new_job(**values: Any) -> Job:
    """Return a job with these values, as `Job(…)` does but without recording changes.

    Every request creates a job, and mostly a statement outside the ORM inserts it.
    """
    unknown = values.keys() - _COLUMNS
    if unknown:
        raise ValueError(f"a job has no column {', '.join(sorted(unknown))}")
    job: Job = _MANAGER.new_instance()
    vars(job).update(values)
    return job


configure_mappers()  # otherwise the first `Job(…)` does it

_MANAGER = inspect(Job).class_manager
_COLUMNS = frozenset(column.key for column in Job.__table__.columns)


def values_of(job: Job) -> dict[str, Any]:
    """Return the loaded values of a job by the names of its columns."""
    return {name: value for name, value in vars(job).items() if not name.startswith("_")}


def find_job(session: Session, job_id: UUID) -> Job | None:
    return session.get(Job, job_id)
