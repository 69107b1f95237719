"""Batches as the pages show them: lists that go both ways, one with what failed, its lines."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.batches.batch import Batch, BatchState
from models.batches.lists import count_running, there
from models.database.pagination import Keyset, read_keyset
from models.jobs.job import Job, JobState, new_job
from models.jobs.lists import LISTED
from models.pages.customers import emails_of
from models.pages.keys import names_of


@dataclass(frozen=True, slots=True)
class ListedBatch:
    """A batch, whose it is, the name of its key, and how many of its lines run now."""

    batch: Batch
    owner_email: str
    key_name: str
    running: int

    @property
    def queued(self) -> int:
        """Lines that have not begun; never negative, whatever ended since the row was read."""
        return max(0, self.batch.total - self.batch.ended - self.running)

    @property
    def progress(self) -> float:
        """The share of lines that have ended."""
        return self.batch.ended / self.batch.total


def list_batch_page(
    session: Session,
    *,
    user_id: UUID | None,
    key_id: UUID | None = None,
    state: BatchState | None = None,
    after: UUID | None = None,
    before: UUID | None = None,
    limit: int,
) -> Keyset[ListedBatch]:
    """Return batches, newest first: those older than the id `after`, or newer than `before`."""
    query = there()
    if user_id is not None:
        query = query.where(Batch.user_id == user_id)
    if key_id is not None:
        query = query.where(Batch.api_key_id == key_id)
    if state is not None:
        query = query.where(Batch.state == state)
    page = read_keyset(session, query, Batch.id, after=after, before=before, limit=limit)
    return page.of(lambda rows: _listed(session, [row[0] for row in rows]))


def read_listed_batches(
    session: Session, batch_ids: Collection[UUID], *, user_id: UUID | None
) -> list[ListedBatch]:
    """Return these batches as they are now, newest first; those of others are left out."""
    query = there().where(Batch.id.in_(batch_ids))
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
    """Return lines of a batch in their order: those behind the line `after`, or before `before`.

    Without their requests and answers.
    """
    query = select(*LISTED).where(Job.batch_id == batch_id)
    if states is not None:
        query = query.where(Job.state.in_(states))
    page = read_keyset(
        session, query, Job.line, after=after, before=before, limit=limit, is_descending=False
    )
    return page.of(lambda rows: [new_job(**dict(row._mapping)) for row in rows])


def _listed(session: Session, batches: list[Any]) -> list[ListedBatch]:
    running = count_running(session, [batch.id for batch in batches if not batch.is_final])
    emails = emails_of(session, {batch.user_id for batch in batches})
    names = names_of(session, {batch.api_key_id for batch in batches})
    return [
        ListedBatch(
            batch,
            emails.get(batch.user_id, ""),
            names.get(batch.api_key_id, ""),
            running.get(batch.id, 0),
        )
        for batch in batches
    ]
