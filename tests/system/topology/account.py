"""Counts afterwards: are the rows what clients were told, each once, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cli.commands.usage import check_usage
from core.config.settings import Settings
from core.ids import Prefix, format_id, parse_id
from models.batches.batch import Batch
from models.database.base import SessionFactory, open_database, sessions
from models.jobs.idempotency import IdempotencyKey
from models.jobs.job import Job, JobState
from models.usage.usage import Usage
from tests.support.polling import wait_until
from tests.system.topology.client import BATCH_LINES
from tests.system.topology.records import Done, Records, Told

END_SECONDS = 60.0


@dataclass(frozen=True)
class Account:
    """What was counted.

    Attributes:
        lost: requests that were done by what their clients were told, and are not by the rows,
            each with what is wrong.
        faults: what else does not agree.
        begun_again: jobs that ended well in a later attempt than their first.
    """

    jobs: int
    lost: list[tuple[Done, str]]
    faults: list[str]
    begun_again: int


@dataclass(frozen=True)
class _Row:
    state: str
    text: str
    prompt_tokens: int
    completion_tokens: int
    used: tuple[int, int] | None
    batch_id: UUID | None
    most_tokens: int


def count(settings: Settings, records: Records) -> Account:
    """Wait until nothing is open any more, and compare the rows with what clients know."""
    engine = open_database(settings)
    try:
        database = sessions(engine)
        wait_until(lambda: _open_jobs(database) == 0, END_SECONDS)
        with database() as session:
            rows, by_key = _rows(session), set(session.scalars(select(IdempotencyKey.job_id)))
            lost = [(done, fault) for done in records.done for fault in _lost(done, rows)]
            faults = [*_unknown(records, rows, by_key), *_miscounted(rows)]
            faults += _batches(session, records)
            again = session.scalar(select(func.count()).where(Job.attempt > 1)) or 0
    finally:
        engine.dispose()
    if differences := check_usage(settings):
        faults.append(f"usage check: {differences} differences")
    return Account(len(rows), lost, faults, again)


def _open_jobs(database: SessionFactory) -> int:
    states = [JobState.QUEUED, JobState.RUNNING]
    with database() as session:
        return session.scalar(select(func.count()).where(Job.state.in_(states))) or 0


def _rows(session: Session) -> dict[UUID, _Row]:
    query = select(Job, Usage).outerjoin(Usage, Usage.job_id == Job.id)
    return {
        job.id: _Row(
            job.state,
            "".join(choice["text"] for choice in job.choices or ()),
            job.prompt_tokens,
            job.completion_tokens,
            None if usage is None else (usage.prompt_tokens, usage.completion_tokens),
            job.batch_id,
            job.request["maxTokens"],
        )
        for job, usage in session.execute(query)
    }


def _lost(done: Done, rows: dict[UUID, _Row]) -> Iterator[str]:
    for told in done.jobs:
        row = rows.get(_uuid(told))
        counts = (told.prompt_tokens, told.completion_tokens)
        if row is None:
            yield f"{told.job_id} is gone"
        elif row.state != JobState.SUCCEEDED:
            yield f"{told.job_id} is {row.state}"
        elif row.text != told.text:
            yield f"{told.job_id} has another text"
        elif row.used != counts:
            yield f"{told.job_id} used {row.used}, its client was told {counts}"


def _unknown(records: Records, rows: dict[UUID, _Row], by_key: set[UUID]) -> Iterator[str]:
    """Look for jobs that nobody was told of: what was refused may have made one, no more."""
    told = {_uuid(told) for done in records.done for told in done.jobs}
    unknown = {
        job_id: row for job_id, row in rows.items() if row.batch_id is None and job_id not in told
    }
    for job_id in unknown.keys() & by_key:
        yield f"{format_id(Prefix.JOB, job_id)} of an Idempotency-Key is {unknown[job_id].state}"
    others = len(unknown.keys() - by_key)
    refused = sum(refusal.kind != "page" for refusal in records.refusals)
    if others > refused + len(records.faults):
        yield f"{others} jobs that nobody was told of, and {refused} refusals"


def _miscounted(rows: dict[UUID, _Row]) -> Iterator[str]:
    """Look for wrong counts: the echo engine gives the prompt again, as far as it may."""
    for job_id, row in rows.items():
        right = min(row.prompt_tokens, row.most_tokens)
        if row.state == JobState.SUCCEEDED and row.completion_tokens != right:
            yield f"{format_id(Prefix.JOB, job_id)} has {row.completion_tokens} tokens, not {right}"


def _batches(session: Session, records: Records) -> Iterator[str]:
    """Each request for a batch made one, and each batch has its lines once."""
    told = {parse_id(Prefix.BATCH, done.batch_id) for done in records.done if done.batch_id}
    found = {batch.id: batch for batch in session.scalars(select(Batch))}
    if not records.faults and found.keys() != told:
        yield f"{len(found)} batches, and clients know of {len(told)}"
    for batch in found.values():
        lines = session.scalar(select(func.count()).where(Job.batch_id == batch.id))
        if (batch.state, batch.succeeded, lines) != ("completed", BATCH_LINES, BATCH_LINES):
            yield f"a batch is {batch.state} with {batch.succeeded} of {lines} lines"


def _uuid(told: Told) -> UUID:
    found = parse_id(Prefix.JOB, told.job_id)
    assert found is not None
    return found
