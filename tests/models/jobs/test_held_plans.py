"""Held lines add no cost to reads of queued jobs. The plans of the reads prove it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session

from core.ids import new_id
from core.queueing.names import QueueName
from models.batches.dispatch import count_released, next_lines
from models.database.base import SessionFactory, utc_now
from models.execution.line_ends import cancel_released_lines
from models.jobs.job import Job
from models.jobs.lists import queued_before
from models.jobs.queue_positions import count_jobs_before
from models.jobs.transitions import expire_queued
from models.usage.limits import in_flight_before, read_key_use
from tests.support.factories.batches import add_batch
from tests.support.factories.rows import add_job, claim_jobs

HELD = 10_000
#: Pages of the database that a read may touch. The table has many thousands.
MOST_PAGES = 150
LEASE = timedelta(seconds=10)


@pytest.fixture
def held_lines(database: SessionFactory) -> Iterator[tuple[Session, UUID]]:
    """A database with many held lines and one job of the interactive queue."""
    with database.begin() as session:
        batch = add_batch(session, lines=HELD, line_expires_at=utc_now() - timedelta(seconds=1))
        add_job(session, created_at=utc_now() - timedelta(hours=1), charged_tokens=5)
        batch_id = batch.id
    with database() as session:
        session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        session.execute(text("vacuum analyze jobs"))
    with database() as session:
        yield session, batch_id


READS: dict[str, Callable[[Session, UUID], Any]] = {
    "queued_before": lambda s, b: queued_before(s, utc_now(), after=None, limit=1000),
    "count_jobs_before": lambda s, b: count_jobs_before(
        s, Job(id=new_id(), queue="bulk", state="queued")
    ),
    "expire_queued": lambda s, b: expire_queued(s, limit=1000),
    "in_flight_before": lambda s, b: in_flight_before(s, utc_now(), QueueName.BULK),
    "read_key_use": lambda s, b: read_key_use(s, _key_of(s, b), utc_now()),
    "count_released": lambda s, b: count_released(s),
    "cancel_released_lines": lambda s, b: cancel_released_lines(s, b),
    "next_lines": lambda s, b: next_lines(s, {b: 32}, {}),
}


def _key_of(session: Session, batch_id: UUID) -> UUID:
    query = text("select api_key_id from batches where id = :id")
    return UUID(str(session.scalar(query, {"id": batch_id})))


def test_no_read_of_queued_jobs_touches_held_lines(held_lines: tuple[Session, UUID]) -> None:
    session, batch_id = held_lines
    engine = session.get_bind()
    assert isinstance(engine, Engine)

    pages = {name: _pages(session, engine, read, batch_id) for name, read in READS.items()}

    assert {name: count for name, count in pages.items() if count > MOST_PAGES} == {}, pages


def test_a_held_line_is_not_claimed_sent_counted_or_expired(
    held_lines: tuple[Session, UUID],
) -> None:
    session, batch_id = held_lines
    held = next_lines(session, {batch_id: 1}, {})[0]

    assert claim_jobs(session, [held.id], worker_id="w", lease=LEASE) == []
    assert len(queued_before(session, utc_now(), after=None, limit=1000)) == 1
    assert expire_queued(session, limit=1000) == []
    assert count_jobs_before(session, session.get_one(Job, held.id)) == 0
    assert read_key_use(session, _key_of(session, batch_id), utc_now()).bulk == {}


def _pages(
    session: Session, engine: Engine, read: Callable[[Session, UUID], Any], batch_id: UUID
) -> int:
    """Return how many pages the statements of a read touch, as PostgreSQL reports it."""
    statements: list[tuple[str, Any]] = []

    def note(conn: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        read(session, batch_id)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    session.rollback()
    total = 0
    for statement, parameters in statements:
        explained = session.connection().exec_driver_sql(
            f"explain (analyze, buffers, format json) {statement}", parameters
        )
        plan = explained.scalar_one()[0]["Plan"]
        total += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    session.rollback()
    return total
