"""Filtered lists of jobs for the API and the pages, and counts of jobs by state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from core.ids import earliest_id
from models.accounts.names import key_names
from models.batches.batch import Batch
from models.database.pagination import Keyset, merge_keysets, read_keyset
from models.jobs.job import Job, JobState, new_job
from models.jobs.lists import LISTED_COLUMNS
from models.webhooks.webhook import WebhookAttempt

#: `read_attempts` returns at most this many attempts.
MOST_ATTEMPTS = 100
#: Rare states. Each has a partial index.
_RARE = (JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED)
_REQUEST = func.jsonb_build_object("metadata", Job.request["metadata"], type_=JSONB)


class JobSource(StrEnum):
    """Where a job came from: one request to the API, or a line of a batch."""

    API = "api"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list; a field that is `None` filters nothing.

    Queued jobs do not include held lines. Times are those of creation, and `until` is exclusive.
    Ids start with the time, so the index of ids finds it. There are only filters that an index
    serves: a filter by model would read every job to find that a model has none.
    """

    user_id: UUID | None = None
    key_id: UUID | None = None
    batch_id: UUID | None = None
    state: JobState | None = None
    source: JobSource | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ListedJob:
    """A job with its owner's email and its key's name.

    It has no request and no completion.
    """

    job: Job
    owner_email: str
    key_name: str


@dataclass(frozen=True, slots=True)
class OpenJobCounts:
    """How many jobs have not ended, by their state.

    Attributes:
        held: batch lines that are not released yet; `queued` does not include them.
    """

    queued: int
    running: int
    held: int


def list_jobs(
    session: Session,
    wanted: JobFilter,
    *,
    after: UUID | None = None,
    before: UUID | None = None,
    limit: int,
    has_metadata: bool = False,
) -> Keyset[Job]:
    """Return jobs, newest first: those older than `after` or newer than `before`.

    `after` and `before` are ids. Requests and completions may be large: they are not read.

    Args:
        has_metadata: read the `metadata` of each request, which costs reading the request.
    """
    columns = (*LISTED_COLUMNS, _REQUEST.label("request")) if has_metadata else LISTED_COLUMNS
    pages = [
        read_keyset(
            session, _where(select(*columns), part), Job.id, after=after, before=before, limit=limit
        )
        for part in _parts(wanted)
    ]
    page = merge_keysets(pages, lambda row: row.id, limit=limit, is_back=before is not None)
    return page.of(_jobs)


def list_job_page(
    session: Session,
    wanted: JobFilter,
    *,
    after: UUID | None = None,
    before: UUID | None = None,
    limit: int,
) -> Keyset[ListedJob]:
    """Return a page of `list_jobs` with the names of keys and the emails of owners."""
    page = list_jobs(session, wanted, after=after, before=before, limit=limit)
    return page.of(lambda jobs: _listed(session, jobs))


def read_listed_jobs(
    session: Session, job_ids: Sequence[UUID], *, user_id: UUID | None
) -> list[ListedJob]:
    """Return the present state of these jobs, newest first.

    Omits jobs of other users than `user_id`.
    """
    query = select(*LISTED_COLUMNS).where(Job.id.in_(job_ids))
    if user_id is not None:
        query = query.where(Job.user_id == user_id)
    return _listed(session, _jobs(session.execute(query.order_by(Job.id.desc())).all()))


def count_newer(session: Session, wanted: JobFilter, job_id: UUID | None, *, most: int) -> int:
    """Count the jobs that are newer than this one, up to `most`."""
    count = 0
    for part in _parts(wanted):
        query = _where(select(Job.id), part)
        if job_id is not None:
            query = query.where(Job.id > job_id)
        # This order reads the list's index from its newest end, and no further than `most`.
        found = query.order_by(Job.id.desc()).limit(most).subquery()
        count += session.scalar(select(func.count()).select_from(found)) or 0
    return min(count, most)


def count_open_jobs(session: Session, *, user_id: UUID | None = None) -> OpenJobCounts:
    """Count the jobs that have not ended, by their state."""
    waiting = select(func.count()).where(Job.state == JobState.QUEUED, ~Job.is_held)
    running = select(func.count()).where(Job.state == JobState.RUNNING)
    held = select(func.count()).where(Job.state == JobState.QUEUED, Job.is_held)
    counts = [waiting, running, held]
    if user_id is not None:
        counts = [query.where(Job.user_id == user_id) for query in counts]
    return OpenJobCounts(*session.execute(select(*(q.scalar_subquery() for q in counts))).one())


def read_attempts(
    session: Session, delivery_ids: Sequence[UUID]
) -> dict[UUID, list[WebhookAttempt]]:
    """Return the attempts of several webhooks, newest first."""
    found: dict[UUID, list[WebhookAttempt]] = {}
    if delivery_ids:
        query = (
            select(WebhookAttempt)
            .where(WebhookAttempt.delivery_id.in_(delivery_ids))
            .order_by(WebhookAttempt.id.desc())
            .limit(MOST_ATTEMPTS)
        )
        for attempt in session.scalars(query):
            found.setdefault(attempt.delivery_id, []).append(attempt)
    return found


def _parts(wanted: JobFilter) -> list[JobFilter]:
    """Return filters that one index each can serve: jobs of both sources need two."""
    is_narrow = wanted.user_id is not None or wanted.key_id is not None or wanted.state in _RARE
    if not is_narrow or wanted.source is not None or wanted.batch_id is not None:
        return [wanted]
    return [replace(wanted, source=source) for source in JobSource]


def _where(query: Select[Any], wanted: JobFilter) -> Select[Any]:
    """Add the conditions to the query, in the form of the partial indexes."""
    if wanted.batch_id is not None:
        query = query.where(Job.batch_id == wanted.batch_id)
    elif wanted.source is JobSource.BATCH:
        query = query.where(_in_batches(wanted))
    elif wanted.source is JobSource.API:
        query = query.where(Job.batch_id.is_(None))
    for column, value in (
        (Job.user_id, wanted.user_id),
        (Job.api_key_id, wanted.key_id),
        (Job.state, wanted.state),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.state is JobState.QUEUED and wanted.batch_id is None:
        query = query.where(~Job.is_held)
    if wanted.since is not None:
        query = query.where(Job.id >= earliest_id(wanted.since))
    if wanted.until is not None:
        query = query.where(Job.id < earliest_id(wanted.until))
    return query


def _in_batches(wanted: JobFilter) -> Any:
    """Return the condition that a job is a batch line, of any user or of one."""
    has_index = wanted.key_id is None and (wanted.user_id is None or wanted.state in _RARE)
    if has_index:
        return Job.batch_id.is_not(None)
    batches = select(Batch.id)
    if wanted.user_id is not None:
        batches = batches.where(Batch.user_id == wanted.user_id)
    if wanted.key_id is not None:
        batches = batches.where(Batch.api_key_id == wanted.key_id)
    return Job.batch_id.in_(batches)


def _jobs(rows: Sequence[Any]) -> list[Job]:
    return [new_job(**row._mapping) for row in rows]


def _listed(session: Session, jobs: Sequence[Job]) -> list[ListedJob]:
    keys = key_names(session, {job.api_key_id for job in jobs})
    return [
        ListedJob(job, keys[job.api_key_id].owner_email, keys[job.api_key_id].name) for job in jobs
    ]
