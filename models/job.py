"""Jobs: one generation each, from `queued` to one final state. The row is the truth.

    queued → running → succeeded | failed | cancelled
    queued → failed | cancelled | expired
    running → queued    (its worker died or was drained; at most `max_attempts` times)

A job expires only if it has never begun. A running job whose cancelling was asked for never goes
back to the queue: its worker ends it, or whoever finds it silent.

Each change is one conditional UPDATE that names the state, and from `running` also the attempt,
that it comes from: a worker believed dead cannot change a job that another has taken over.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from operator import itemgetter
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    SmallInteger,
    String,
    case,
    func,
    inspect,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, configure_mappers, mapped_column

from core.ids import new_id
from models.base import Base, utc_now


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


def may_become(old: JobState, new: JobState) -> bool:
    """Say whether a job may go from `old` to `new`."""
    return new in _NEXT[old]


class Job(Base):
    """One generation.

    Attributes:
        queue: the line it waits in, `interactive` or `bulk`.
        priority: weight of its key's share in the engine when it was made.
        request: the validated request as the worker needs it.
        choices: the answer's choices, once it succeeded (or was cancelled midway).
        error: `{code, message}` of a job that failed.
        charged_tokens: what its key's token limits were charged when it was made; what it did not
            use is given back at its end.
        is_streamed: somebody follows its text while it is made.
        is_cached: it was answered by the response cache, without the model.
        cancel_requested_at: when somebody asked a running job to end.
        expires_at: when it ends unless it has begun.
        attempt: times it was begun.
        lease_expires_at: until when its worker's silence is believed to be work.
        request_id: of the HTTP request that made it, for the logs.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(
            "state in ('queued','running','succeeded','failed','cancelled','expired')",
            name="state",
        ),
        CheckConstraint("queue in ('interactive','bulk')", name="queue"),
        Index("ix_jobs_user_id_id", "user_id", "id"),
        Index("ix_jobs_api_key_id_id", "api_key_id", "id"),
        Index("ix_jobs_queued", "id", postgresql_where=text("state = 'queued'")),
        Index("ix_jobs_leases", "lease_expires_at", postgresql_where=text("state = 'running'")),
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
    is_streamed: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    is_cached: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    attempt: Mapped[int] = mapped_column(default=0)
    worker_id: Mapped[str | None] = mapped_column(String(64))
    request_id: Mapped[str] = mapped_column(String(128), default="")
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    started_at: Mapped[datetime | None]
    first_token_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    lease_expires_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]

    @property
    def is_final(self) -> bool:
        return JobState(self.state).is_final


def new_job(**values: Any) -> Job:
    """Return a job of these values: what `Job(…)` returns, without noting each as a change.

    Every request makes one, and most are inserted by a statement that is not the ORM's.
    """
    job: Job = _MANAGER.new_instance()
    vars(job).update(values)
    return job


configure_mappers()  # `Job(…)` would do it at its first call
_MANAGER = inspect(Job).class_manager


#: What a list shows of a job.
_LISTED = [c for c in Job.__table__.columns if c.name not in {"request", "choices"}]


def values_of(job: Job) -> dict[str, Any]:
    """Return the values that are known of a job, by the names of its columns."""
    return {name: value for name, value in vars(job).items() if not name.startswith("_")}


#: What a worker must know of a job that it claims. In SQL, as what follows: workers run them for
#: every job, and the ORM takes several times longer than PostgreSQL.
_CLAIM = f"""
    update jobs set state = '{JobState.RUNNING}', attempt = attempt + 1,
        worker_id = %(worker_id)s, started_at = coalesce(started_at, %(now)s),
        lease_expires_at = now() + %(lease)s
    where id = any(%(ids)s::uuid[]) and state = '{JobState.QUEUED}'
      and (expires_at is null or expires_at > now() or started_at is not null)
    returning id, user_id, api_key_id, queue, state, priority, model, request, prompt_tokens,
        charged_tokens, is_streamed, is_cached, attempt, worker_id, request_id, created_at,
        started_at, expires_at, cancel_requested_at
"""
_FINISH = f"""
    update jobs set state = e.state, choices = e.choices, error = e.error,
        prompt_tokens = e.prompt_tokens, completion_tokens = e.completion_tokens,
        cached_tokens = e.cached_tokens, first_token_at = e.first_token_at,
        finished_at = %(now)s, lease_expires_at = null
    from jsonb_to_recordset(%(ends)s::jsonb) as e (
        id uuid, attempt integer, state text, choices jsonb, error jsonb, prompt_tokens integer,
        completion_tokens integer, cached_tokens integer, first_token_at timestamptz
    )
    where jobs.id = e.id and jobs.attempt = e.attempt and jobs.state = '{JobState.RUNNING}'
      and jobs.worker_id = %(worker_id)s
    returning jobs.id, jobs.attempt, jobs.cancel_requested_at
"""


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """How a job ended and what it really used."""

    state: JobState
    choices: list[dict[str, Any]] | None = None
    error: dict[str, Any] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    first_token_at: datetime | None = None


def find_job(session: Session, job_id: UUID) -> Job | None:
    return session.get(Job, job_id)


def claim_jobs(
    session: Session, job_ids: Sequence[UUID], *, worker_id: str, lease: timedelta
) -> list[Job]:
    """Take those of the jobs for `worker_id` that are queued. They belong to no session."""
    values = {
        "ids": [str(job_id) for job_id in job_ids],
        "worker_id": worker_id,
        "now": utc_now(),
        "lease": lease,
    }
    rows = session.connection().exec_driver_sql(_CLAIM, values).mappings()
    return [new_job(**row) for row in rows]


def finish_jobs(
    session: Session, ends: Sequence[tuple[Job, JobOutcome]], *, worker_id: str
) -> list[Job]:
    """End running jobs, as `claim_jobs` gave them, all in one statement.

    Returns those that ended, as they are now: not those that were no longer this worker's in this
    attempt.
    """
    for _, outcome in ends:
        _may_come(outcome.state, JobState.RUNNING)
    now = utc_now()
    # In one order everywhere: two statements must not wait for each other's rows.
    rows = sorted((_end_row(job, outcome) for job, outcome in ends), key=itemgetter("id"))
    values = {"ends": json.dumps(rows), "worker_id": worker_id, "now": now}
    found = session.connection().exec_driver_sql(_FINISH, values)
    asked = {(job_id, attempt): cancel_asked for job_id, attempt, cancel_asked in found}
    return [
        new_job(
            **{
                **values_of(job),
                **_outcome_values(outcome),
                "finished_at": now,
                "cancel_requested_at": asked[job.id, job.attempt],
            }
        )
        for job, outcome in ends
        if (job.id, job.attempt) in asked
    ]


def find_ended(session: Session, jobs: Sequence[Job], *, worker_id: str) -> list[Job]:
    """Return those of a worker's jobs that ended in the attempt that it knows."""
    known = {job.id: job.attempt for job in jobs}
    rows = session.scalars(
        select(Job).where(
            Job.id.in_(known), Job.worker_id == worker_id, Job.finished_at.is_not(None)
        )
    )
    return [job for job in rows if known[job.id] == job.attempt]


def finish_job(
    session: Session,
    job_id: UUID,
    *,
    attempt: int | None,
    outcome: JobOutcome,
    worker_id: str | None = None,
    is_silent: bool = False,
) -> Job | None:
    """End a job: a running one of this `attempt`, or with `attempt=None` a queued one.

    Args:
        worker_id: only if this worker holds it.
        is_silent: only if its lease has run out.

    Returns `None`, and changes nothing, if the job is no longer there to be ended.
    """
    came_from = JobState.QUEUED if attempt is None else JobState.RUNNING
    where = [Job.id == job_id, *_may_come(outcome.state, came_from)]
    if attempt is not None:
        where.append(Job.attempt == attempt)
    if worker_id is not None:
        where.append(Job.worker_id == worker_id)
    if is_silent:
        where.append(Job.lease_expires_at < func.now())
    return session.scalar(
        update(Job)
        .where(*where)
        .values(
            state=outcome.state,
            choices=outcome.choices,
            error=outcome.error,
            prompt_tokens=outcome.prompt_tokens,
            completion_tokens=outcome.completion_tokens,
            cached_tokens=outcome.cached_tokens,
            first_token_at=outcome.first_token_at,
            finished_at=utc_now(),
            lease_expires_at=None,
        )
        .returning(Job)
        .execution_options(populate_existing=True)
    )


def hand_back_jobs(session: Session, attempts: dict[UUID, int], *, worker_id: str) -> list[Job]:
    """Return a worker's running jobs (id to attempt) to the queue, because it must stop."""
    handed_back = []
    for job_id, attempt in attempts.items():
        job = session.scalar(
            _requeue(Job.id == job_id, Job.attempt == attempt, Job.worker_id == worker_id).values(
                attempt=Job.attempt - 1
            )
        )
        if job is not None:
            handed_back.append(job)
    return handed_back


@dataclass(frozen=True, slots=True)
class HeldJob:
    """What a worker is told of a job that is still its own."""

    attempt: int
    must_cancel: bool


def renew_leases(
    session: Session, job_ids: Sequence[UUID], *, worker_id: str, lease: timedelta
) -> dict[UUID, HeldJob]:
    """Renew all leases of one worker in one statement; return what is still its own."""
    rows = session.execute(
        update(Job)
        .where(Job.id.in_(job_ids), Job.state == JobState.RUNNING, Job.worker_id == worker_id)
        .values(lease_expires_at=_end_of(lease))
        .returning(Job.id, Job.attempt, Job.cancel_requested_at.is_not(None))
    )
    return {job_id: HeldJob(attempt, must_cancel) for job_id, attempt, must_cancel in rows}


def ask_to_cancel(session: Session, job_ids: Sequence[UUID]) -> list[Job]:
    """End those of the jobs that are queued, and note that those that run shall end.

    In one statement: a job that goes back to the queue meanwhile is not missed.
    """
    _may_come(JobState.CANCELLED, JobState.QUEUED)
    is_queued = Job.state == JobState.QUEUED
    found = (
        select(Job.id)
        .where(Job.id.in_(job_ids), Job.state.in_([JobState.QUEUED, JobState.RUNNING]))
        .order_by(Job.id)
        .with_for_update()
    )
    return list(
        session.scalars(
            update(Job)
            .where(Job.id.in_(found.scalar_subquery()))
            .values(
                state=case((is_queued, JobState.CANCELLED), else_=Job.state),
                finished_at=case((is_queued, utc_now()), else_=Job.finished_at),
                cancel_requested_at=case(
                    (is_queued, Job.cancel_requested_at),
                    else_=func.coalesce(Job.cancel_requested_at, func.now()),
                ),
            )
            .returning(Job)
            .execution_options(populate_existing=True, synchronize_session=False)
        )
    )


def ask_for_text(session: Session, job_id: UUID) -> None:
    """Note that somebody follows the job's text: whoever begins it tells it as it is made."""
    session.execute(
        update(Job)
        .where(Job.id == job_id, Job.is_streamed.is_(False), Job.finished_at.is_(None))
        .values(is_streamed=True)
        .execution_options(synchronize_session=False)
    )


def expire_queued(session: Session, *, limit: int) -> list[Job]:
    """End jobs that have not begun in the time that their caller gave them."""
    due = (
        select(Job.id)
        .where(Job.state == JobState.QUEUED, Job.expires_at < func.now())
        .where(Job.started_at.is_(None))
        .order_by(Job.expires_at)
        .limit(limit)
    )
    return list(
        session.scalars(
            update(Job)
            .where(Job.id.in_(due), *_may_come(JobState.EXPIRED, JobState.QUEUED))
            .values(state=JobState.EXPIRED, finished_at=utc_now())
            .returning(Job)
            .execution_options(populate_existing=True)
        )
    )


def requeue_expired(session: Session, *, max_attempts: int, limit: int) -> list[Job]:
    """Return jobs whose worker fell silent to the queue, those with attempts left."""
    return list(session.scalars(_requeue(*_lease_ran_out(limit), Job.attempt < max_attempts)))


def expired_for_good(session: Session, *, max_attempts: int, limit: int) -> list[Job]:
    """Return the jobs whose worker fell silent and that shall not begin again: it was their last

    attempt, or somebody asked for their end. Nothing is changed.
    """
    is_over = or_(Job.attempt >= max_attempts, Job.cancel_requested_at.is_not(None))
    conditions = [*_lease_ran_out(limit), is_over]
    return list(session.scalars(select(Job).where(*conditions)))


class QueuedJob(NamedTuple):
    """A job that waits, and the line that it waits in."""

    id: UUID
    queue: str


def queued_before(
    session: Session, before: datetime, *, after: UUID | None, limit: int
) -> list[QueuedJob]:
    """Return queued jobs that were made before a time, oldest first, from beyond the id `after`."""
    query = select(Job.id, Job.queue).where(Job.state == JobState.QUEUED, Job.created_at < before)
    if after is not None:
        query = query.where(Job.id > after)
    return [QueuedJob(*row) for row in session.execute(query.order_by(Job.id).limit(limit))]


def list_jobs(
    session: Session,
    *,
    user_id: UUID | None,
    api_key_id: UUID | None = None,
    state: JobState | None = None,
    after: UUID | None,
    limit: int,
) -> list[Job]:
    """Return jobs, newest first, of one user or of all, from before the id `after`.

    Their requests and answers may be large, and stay where they are, but for the `metadata`.
    """
    query = select(*_LISTED, Job.request["metadata"].label("metadata"))
    if user_id is not None:
        query = query.where(Job.user_id == user_id)
    if api_key_id is not None:
        query = query.where(Job.api_key_id == api_key_id)
    if state is not None:
        query = query.where(Job.state == state)
    if after is not None:
        query = query.where(Job.id < after)
    rows = session.execute(query.order_by(Job.id.desc()).limit(limit)).mappings()
    return [
        new_job(**{**row, "request": {"metadata": metadata}})
        for row, metadata in ((dict(found), found["metadata"]) for found in rows)
    ]


def place_in_line(session: Session, job: Job, *, most: int) -> int:
    """Return how many jobs of its queue wait before a queued job, counted up to `most`."""
    before = (
        select(Job.id)
        .where(Job.state == JobState.QUEUED, Job.queue == job.queue, Job.id < job.id)
        .limit(most)
        .subquery()
    )
    return session.scalar(select(func.count()).select_from(before)) or 0


def _end_row(job: Job, end: JobOutcome) -> dict[str, Any]:
    first = end.first_token_at
    return {
        **_outcome_values(end),
        "id": str(job.id),
        "attempt": job.attempt,
        "first_token_at": first.isoformat() if first is not None else None,
    }


def _outcome_values(outcome: JobOutcome) -> dict[str, Any]:
    return {field.name: getattr(outcome, field.name) for field in fields(outcome)}


def _end_of(lease: timedelta) -> Any:
    """Return the end of a lease that begins now, by the one clock that all workers share."""
    return func.now() + lease


def _may_come(new: JobState, old: JobState) -> list[Any]:
    if not may_become(old, new):
        raise ValueError(f"a job cannot go from {old} to {new}")
    return [Job.state == old]


def _requeue(*conditions: Any) -> Any:
    return (
        update(Job)
        .where(
            *_may_come(JobState.QUEUED, JobState.RUNNING),
            Job.cancel_requested_at.is_(None),
            *conditions,
        )
        .values(state=JobState.QUEUED, worker_id=None, lease_expires_at=None)
        .returning(Job)
        .execution_options(populate_existing=True)
    )


def _lease_ran_out(limit: int) -> list[Any]:
    silent = (
        select(Job.id)
        .where(Job.state == JobState.RUNNING, Job.lease_expires_at < func.now())
        .order_by(Job.lease_expires_at)
        .limit(limit)
    )
    return [Job.id.in_(silent), Job.state == JobState.RUNNING, Job.lease_expires_at < func.now()]
