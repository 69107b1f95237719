"""Batches and their lines, as the API stores them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import redis
from sqlalchemy import func, insert, select

from core.ids import new_id
from core.queueing.workers import WorkerRegistry, WorkerStatus
from models.accounts.api_key import ApiKey
from models.batches.batch import Batch
from models.batches.dispatch import next_lines, release_lines
from models.database.base import Session, SessionFactory, utc_now
from models.jobs.job import Job
from tests.support.factories.rows import add_key, claim_jobs

REQUEST = {"prompt": "hello", "maxTokens": 10}
PROMPT_TOKENS = 5
#: Rows that one statement inserts.
CHUNK = 5000


def add_batch(
    session: Session,
    key: ApiKey | None = None,
    *,
    lines: int = 1,
    requests: Sequence[Mapping[str, Any]] | None = None,
    line_expires_at: datetime | None = None,
    **values: Any,
) -> Batch:
    """Add a batch with held lines: `requests`, or `lines` times `REQUEST`."""
    key = key or add_key(session)
    bodies = requests if requests is not None else [REQUEST] * lines
    defaults = {"model": "m", "total": len(bodies), "expires_at": utc_now() + timedelta(days=1)}
    batch = Batch(user_id=key.user_id, api_key_id=key.id, **{**defaults, **values})
    session.add(batch)
    session.flush()
    rows = [
        {
            "id": new_id(),
            "user_id": key.user_id,
            "api_key_id": key.id,
            "queue": "bulk",
            "state": "queued",
            "model": batch.model,
            "request": request,
            "prompt_tokens": PROMPT_TOKENS,
            "batch_id": batch.id,
            "line": line,
            "is_held": True,
            "created_at": batch.created_at,
            "expires_at": line_expires_at,
        }
        for line, request in enumerate(bodies, start=1)
    ]
    for start in range(0, len(rows), CHUNK):
        session.execute(insert(Job), rows[start : start + CHUNK])
    return batch


def lines_by_state(session: Session, batch_id: UUID) -> dict[str, int]:
    """Return the number of lines in each state; lines that are not released are `held`."""
    rows = session.execute(
        select(Job.state, Job.is_held, func.count())
        .where(Job.batch_id == batch_id)
        .group_by(Job.state, Job.is_held)
    )
    counts: dict[str, int] = {}
    for state, is_held, count in rows:
        name = "held" if is_held and state == "queued" else state
        counts[name] = counts.get(name, 0) + count
    return counts


def released(session: Session) -> list[Job]:
    """Return the released lines, in the order of their release and of their ids."""
    return list(
        session.scalars(
            select(Job).where(Job.released_at.is_not(None)).order_by(Job.released_at, Job.id)
        )
    )


def batch_of(session: Session, batch_id: UUID) -> Batch:
    return session.get_one(Batch, batch_id, populate_existing=True)


def claim_lines(session: Session, batch_id: UUID, *, count: int = 100) -> list[Job]:
    """Release lines of a batch, and claim them for the worker `w`."""
    lines = next_lines(session, {batch_id: count}, {})
    release_lines(session, lines)
    return claim_jobs(session, [line.id for line in lines], worker_id="w", lease=LEASE)


def have_workers(client: redis.Redis, *, places: int) -> None:
    status = WorkerStatus("w", "m", 1000, is_ready=True, bulk_places=places)
    WorkerRegistry(client).report(status)


def new_batch(database: SessionFactory, key: ApiKey | None = None, **values: Any) -> UUID:
    with database.begin() as session:
        return add_batch(session, key, **values).id


LEASE = timedelta(seconds=10)
