"""Lists of jobs for the API and the pages, filtered and in both directions, and counts by state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
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

#: What ended of this time is counted, up to so many of each state.
COUNTED_TIME = timedelta(days=1)
MOST_COUNTED = 50_000
#: Attempts that are shown of the messages of one job.
MOST_ATTEMPTS = 100
#: States with indexes of their own, in which most jobs are not.
_RARE = (JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED)
_REQUEST = func.jsonb_build_object("metadata", Job.request["metadata"], type_=JSONB)


class JobSource(StrEnum):
    """Where a job came from: one request to the API, or a line of a batch."""

    API = "api"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are wanted; a field that is `None` filters nothing. `until` is not included.

    Lines that their batch still holds are not among the queued. Times are those of creation, and
    looked up in the ids, which begin with them. Only what an index finds can be asked for: of a
    model without jobs, every job would be read.
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
    """A job without its request and answer, whose it is, and the name of its key."""

    job: Job
    owner_email: str
    key_name: str


@dataclass(frozen=True, slots=True)
class JobStateCounts:
    """How many jobs are in each state.

    Attributes:
        held: lines of batches that wait to be released; they are not among the queued.
        ended: of those made within a day and no lines of batches, up to `MOST_COUNTED` of each.
    """

    queued: int
    running: int
    held: int
    ended: dict[JobState, int]


def list_jobs(
    session: Session,
    wanted: JobFilter,
    *,
    after: UUID | None = None,
    before: UUID | None = None,
    limit: int,
    has_metadata: bool = False,
) -> Keyset[Job]:
    """Return jobs, newest first: those older than the id `after`, or newer than `before`.

    Requests and completions may be large: they are not read.

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
    """Return these jobs as they are now, newest first; those of others are left out."""
    query = select(*LISTED_COLUMNS).where(Job.id.in_(job_ids))
    if user_id is not None:
        query = query.where(Job.user_id == user_id)
    return _listed(session, _jobs(session.execute(query.order_by(Job.id.desc())).all()))


def count_newer(session: Session, wanted: JobFilter, job_id: UUID | None, *, most: int) -> int:
    """Return how many jobs there are that are newer than this one, counted up to `most`."""
    count = 0
    for part in _parts(wanted):
        query = _where(select(Job.id), part)
        if job_id is not None:
            query = query.where(Job.id > job_id)
        # In this order the index of the list is read from its new end, and no further than needed.
        found = query.order_by(Job.id.desc()).limit(most).subquery()
        count += session.scalar(select(func.count()).select_from(found)) or 0
    return min(count, most)


def count_jobs(session: Session, now: datetime, *, user_id: UUID | None = None) -> JobStateCounts:
    """Count jobs by their state."""
    waiting = select(func.count()).where(Job.state == JobState.QUEUED, ~Job.is_held)
    running = select(func.count()).where(Job.state == JobState.RUNNING)
    held = select(func.count()).where(Job.state == JobState.QUEUED, Job.is_held)
    counts = [waiting, running, held]
    if user_id is not None:
        counts = [query.where(Job.user_id == user_id) for query in counts]
    since = earliest_id(now - COUNTED_TIME)
    ended = [state for state in JobState if state.is_final]
    for state in ended:
        found = select(Job.id).where(Job.state == state, Job.batch_id.is_(None), Job.id >= since)
        if user_id is not None:
            found = found.where(Job.user_id == user_id)
        counts.append(select(func.count()).select_from(found.limit(MOST_COUNTED).subquery()))
    row = session.execute(select(*(query.scalar_subquery() for query in counts))).one()
    return JobStateCounts(row[0], row[1], row[2], dict(zip(ended, row[3:], strict=True)))


def read_attempts(
    session: Session, delivery_ids: Sequence[UUID]
) -> dict[UUID, list[WebhookAttempt]]:
    """Return the attempts at several messages, newest first."""
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
    """Return the questions that indexes answer: those of jobs of both sources serve one each."""
    is_narrow = wanted.user_id is not None or wanted.key_id is not None or wanted.state in _RARE
    if not is_narrow or wanted.source is not None or wanted.batch_id is not None:
        return [wanted]
    return [replace(wanted, source=source) for source in JobSource]


def _where(query: Select[Any], wanted: JobFilter) -> Select[Any]:
    """Return the query with its conditions, in the words of the indexes that serve them."""
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
    """Return the condition that a job is a line: of some batch, or of one of the wanted ones."""
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
