"""Inserts of batch lines as jobs, and reads of the lines to retry.

One SQL statement inserts many rows. There is no COPY: psycopg2 cannot copy while greenlets wait for
it.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.queueing.names import QueueName
from models.batches.batch import Batch
from models.database.prepared import Statements
from models.jobs.job import Job, JobState

#: States of lines that may be retried.
UNSUCCESSFUL = (JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED)
#: The most lines of one read.
MOST_LINES = 300
#: A read ends with the line that exceeds this many bytes of requests, as stored.
MOST_STORED_BYTES = 256 * 1024

#: An invalid line has an error. Its job has ended, and its request is unknown.
_INSERT = f"""
    insert into jobs (
        id, user_id, api_key_id, batch_id, line, custom_id, queue, state, is_held, priority, model,
        request, error, prompt_tokens, completion_tokens, cached_tokens, charged_tokens, attempt,
        request_id, created_at, finished_at
    )
    select r.id, %(user_id)s, %(api_key_id)s, %(batch_id)s, r.line, r.custom_id,
        '{QueueName.BULK}',
        case when r.error is null then '{JobState.QUEUED}' else '{JobState.FAILED}' end,
        r.error is null, %(priority)s, %(model)s, coalesce(r.request, '{{}}'::jsonb), r.error,
        coalesce(r.prompt_tokens, 0), 0, 0, 0, 0, %(request_id)s, %(created_at)s::timestamptz,
        case when r.error is null then null else %(created_at)s::timestamptz end
    from jsonb_to_recordset(%(rows)s::jsonb) as r (
        id uuid, line integer, custom_id text, request jsonb, prompt_tokens integer, error jsonb
    )
"""
#: The unsuccessful lines of a batch whose requests are known.
_READ = f"""
    select line, custom_id, request
    from (
        select found.*, sum(size) over (order by line) - size as before
        from (
            select line, custom_id, request, pg_column_size(request) as size
            from jobs
            where batch_id = %(batch_id)s and line > %(after)s and request <> '{{}}'::jsonb
              and texts_deleted_at is null
              and state in ({", ".join(f"'{state}'" for state in UNSUCCESSFUL)})
            order by line limit {MOST_LINES}
        ) as found
    ) as counted
    where before < {MOST_STORED_BYTES} order by line
"""


class UnsuccessfulLine(NamedTuple):
    """A line that did not succeed, with its request."""

    line: int
    custom_id: str | None
    request: dict[str, Any]


#: Lets the server end the transaction of a process that hangs.
_IDLE_TIMEOUT = "set local idle_in_transaction_session_timeout = '30s'"


def begin_writing(session: Session) -> None:
    """Let the server end this transaction if it is idle for 30 seconds."""
    session.connection().exec_driver_sql(_IDLE_TIMEOUT)


def insert_lines(session: Session, batch: Batch, rows: str, *, priority: int) -> None:
    """Insert lines of a batch.

    Args:
        rows: a JSON array of objects with the fields of `r` in `_INSERT`.
    """
    values = {**_values_of(batch), "priority": priority, "rows": rows}
    session.connection().exec_driver_sql(_INSERT, values)


def read_unsuccessful(
    statements: Statements, batch_id: UUID, *, after: int
) -> list[UnsuccessfulLine]:
    """Return the next lines that may be retried, after the line `after`.

    Omits lines that were invalid, because their requests are unknown.
    """
    rows = statements.run(_READ, {"batch_id": batch_id, "after": after})
    return [UnsuccessfulLine(*row) for row in rows]


def count_retriable(session: Session, batch: Batch) -> int:
    """Return how many lines `read_unsuccessful` returns in total."""
    if batch.texts_deleted_at is not None:
        return 0
    rest = batch.cancelled + batch.expired
    if not batch.failed:
        return rest
    known = select(func.count()).where(
        Job.batch_id == batch.id, Job.state == JobState.FAILED, Job.request != {}
    )
    return rest + (session.scalar(known) or 0)


def _values_of(batch: Batch) -> dict[str, Any]:
    return {
        "user_id": batch.user_id,
        "api_key_id": batch.api_key_id,
        "batch_id": batch.id,
        "model": batch.model,
        "request_id": batch.request_id,
        "created_at": batch.created_at,
    }
