"""Lists of batches and of their lines, for the API and the pages."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.accounts.names import key_names
from models.batches.batch import Batch, BatchState
from models.batches.reads import count_running, existing_batches
from models.database.pagination import Keyset, read_entities, read_keyset
from models.jobs.job import Job, JobState, new_job
from models.jobs.lists import LISTED_COLUMNS


@dataclass(frozen=True, slots=True)
class BatchFilter:
    """Which batches to list; a field that is `None` filters nothing.

    Attributes:
        has_endpoint: only batches whose lines have the format of OpenAI's API.
    """

    user_id: UUID | None = None
    key_id: UUID | None = None
    state: BatchState | None = None
    has_endpoint: bool = False


@dataclass(frozen=True, slots=True)
class ListedBatch:
    """A batch with its owner's email, its key's name and its number of running lines."""

    batch: Batch
    owner_email: str
    key_name: str
    running: int


def list_batches(
    session: Session,
    wanted: BatchFilter,
    *,
    after: UUID | None = None,
    before: UUID | None = None,
    limit: int,
) -> Keyset[Batch]:
    """Return batches, newest first: those older than `after` or newer than `before`.

    `after` and `before` are ids.
    """
    query = existing_batches()
    for column, value in (
        (Batch.user_id, wanted.user_id),
        (Batch.api_key_id, wanted.key_id),
        (Batch.state, wanted.state),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.has_endpoint:
        query = query.where(Batch.endpoint.is_not(None))
    return read_entities(session, query, Batch.id, after=after, before=before, limit=limit)


def list_batch_page(
    session: Session,
    wanted: BatchFilter,
    *,
    after: UUID | None = None,
    before: UUID | None = None,
    limit: int,
) -> Keyset[ListedBatch]:
    """Return a page of `list_batches` with names, emails and counts of running lines."""
    page = list_batches(session, wanted, after=after, before=before, limit=limit)
    return page.of(lambda batches: _listed(session, batches))


def read_listed_batches(
    session: Session, batch_ids: Collection[UUID], *, user_id: UUID | None
) -> list[ListedBatch]:
    """Return the present state of these batches, newest first.

    Omits batches of other users than `user_id`.
    """
    query = existing_batches().where(Batch.id.in_(batch_ids))
    if user_id is not None:
        query = query.where(Batch.user_id == user_id)
    return _listed(session, list(session.scalars(query.order_by(Batch.id.desc()))))


def list_lines(
    session: Session,
    batch_id: UUID,
    *,
    states: Collection[JobState] | None = None,
    after: int | None = None,
    before: int | None = None,
    limit: int,
) -> Keyset[Job]:
    """Return lines of a batch in order: those after `after` or before `before`.

    `after` and `before` are numbers of lines. The lines come without their requests and
    completions.
    """
    query = select(*LISTED_COLUMNS).where(Job.batch_id == batch_id)
    if states is not None:
        query = query.where(Job.state.in_(states))
    page = read_keyset(
        session, query, Job.line, after=after, before=before, limit=limit, is_descending=False
    )
    return page.of(lambda rows: [new_job(**row._mapping) for row in rows])


def _listed(session: Session, batches: Sequence[Batch]) -> list[ListedBatch]:
    running = count_running(session, [batch.id for batch in batches if not batch.is_final])
    keys = key_names(session, {batch.api_key_id for batch in batches})
    return [
        ListedBatch(
            batch,
            keys[batch.api_key_id].owner_email,
            keys[batch.api_key_id].name,
            running.get(batch.id, 0),
        )
        for batch in batches
    ]
