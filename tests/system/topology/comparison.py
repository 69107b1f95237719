"""The rows of the database compared with what clients received."""

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
from tests.system.topology.records import Done, EndedJob, Records

END_SECONDS = 60.0


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        lost: requests that their clients saw done and the rows do not, each with the difference.
        faults: all other differences.
        retried: jobs with more than one attempt.
    """

    jobs: int
    lost: list[tuple[Done, str]]
    faults: list[str]
    retried: int


@dataclass(frozen=True)
class _Row:
    state: str
    text: str
    prompt_tokens: int
    completion_tokens: int
    used: tuple[int, int] | None
    batch_id: UUID | None
    most_tokens: int


def compare(settings: Settings, records: Records) -> Comparison:
    """Wait until all jobs have ended, and compare the rows with the clients' records."""
    engine = open_database(settings)
    try:
        database = sessions(engine)
        wait_until(lambda: _open_jobs(database) == 0, END_SECONDS)
        with database() as session:
            rows, by_key = _rows(session), set(session.scalars(select(IdempotencyKey.job_id)))
            lost = [(done, fault) for done in records.done for fault in _lost(done, rows)]
            faults = [*_unknown(records, rows, by_key), *_miscounted(rows)]
            faults += _batches(session, records)
            retried = session.scalar(select(func.count()).where(Job.attempt > 1)) or 0
    finally:
        engine.dispose()
    if differences := check_usage(settings):
        faults.append(f"usage check: {differences} differences")
    return Comparison(len(rows), lost, faults, retried)


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
    for job in done.jobs:
        row = rows.get(_uuid(job))
        counts = (job.prompt_tokens, job.completion_tokens)
        if row is None:
            yield f"{job.job_id} is gone"
        elif row.state != JobState.SUCCEEDED:
            yield f"{job.job_id} is {row.state}"
        elif row.text != job.text:
            yield f"{job.job_id} has another text"
        elif row.used != counts:
            yield f"{job.job_id} used {row.used}, its client received {counts}"


def _unknown(records: Records, rows: dict[UUID, _Row], by_key: set[UUID]) -> Iterator[str]:
    """Find jobs that no client knows; a rejected request may have made one at most."""
    known = {_uuid(job) for done in records.done for job in done.jobs}
    unknown = {
        job_id: row for job_id, row in rows.items() if row.batch_id is None and job_id not in known
    }
    for job_id in unknown.keys() & by_key:
        yield f"{format_id(Prefix.JOB, job_id)} of an Idempotency-Key is {unknown[job_id].state}"
    others = len(unknown.keys() - by_key)
    refused = sum(refusal.kind != "page" for refusal in records.refusals)
    if others > refused + len(records.faults):
        yield f"{others} jobs that no client knows, and {refused} refusals"


def _miscounted(rows: dict[UUID, _Row]) -> Iterator[str]:
    """Find wrong counts: the echo engine repeats the prompt, up to `maxTokens`."""
    for job_id, row in rows.items():
        right = min(row.prompt_tokens, row.most_tokens)
        if row.state == JobState.SUCCEEDED and row.completion_tokens != right:
            yield f"{format_id(Prefix.JOB, job_id)} has {row.completion_tokens} tokens, not {right}"


def _batches(session: Session, records: Records) -> Iterator[str]:
    """Find batches without a request, and batches that do not have each line once."""
    known = {parse_id(Prefix.BATCH, done.batch_id) for done in records.done if done.batch_id}
    found = {batch.id: batch for batch in session.scalars(select(Batch))}
    if not records.faults and found.keys() != known:
        yield f"{len(found)} batches, and clients know {len(known)}"
    for batch in found.values():
        lines = session.scalar(select(func.count()).where(Job.batch_id == batch.id))
        if (batch.state, batch.succeeded, lines) != ("completed", BATCH_LINES, BATCH_LINES):
            yield f"a batch is {batch.state} with {batch.succeeded} of {lines} lines"


def _uuid(job: EndedJob) -> UUID:
    found = parse_id(Prefix.JOB, job.job_id)
    assert found is not None
    return found
