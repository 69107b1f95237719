"""Inserts of jobs: one statement inserts the jobs of many requests.

It inserts a job only if the API key of its request has not changed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import psycopg2

from core.concurrency.coalescer import Coalescer
from models.accounts.key_cache import RequestKey
from models.database.prepared import OutcomeUnknown, Prepared, Statements
from models.jobs.job import Job

#: The most jobs of one statement.
MOST_JOBS = 32
#: A row with more characters of JSON is inserted alone.
LARGE_CHARACTERS = 64 * 1024

#: `key_version` is the version of a cached key. A key that was read for its request has none,
#: because recording its use may have changed its row; the key must still be valid. An `exists`
#: would make PostgreSQL hash the keys of all users.
INSERT = Prepared(
    "insert_jobs",
    "json",
    """
    insert into jobs (
        id, user_id, api_key_id, queue, state, priority, model, request, prompt_tokens,
        completion_tokens, cached_tokens, charged_tokens, is_streamed, attempt, request_id,
        traceparent, created_at, expires_at
    )
    select j.id, j.user_id, j.api_key_id, j.queue, j.state, j.priority, j.model, j.request,
           j.prompt_tokens, 0, 0, j.charged_tokens, j.is_streamed, 0, j.request_id, j.traceparent,
           now(), now() + (j.expires_at - j.created_at)
    from json_to_recordset($1) as j (
        id uuid, user_id uuid, api_key_id uuid, key_version xid, queue text, state text,
        priority smallint, model text, request jsonb, prompt_tokens int, charged_tokens int,
        is_streamed bool, request_id text, traceparent text, created_at timestamptz,
        expires_at timestamptz
    )
    where (
        select coalesce(k.xmin = j.key_version, k.is_active and k.deleted_at is null)
            and u.deleted_at is null and u.is_active
        from api_keys k join users u on u.id = k.user_id where k.id = j.api_key_id
    )
    returning id, created_at, expires_at
    """,
)


#: By the database's clock: the creation of a job, and when it expires unless it has begun.
Dates = tuple[datetime, datetime | None]


class JobInserts:
    """Inserts queued jobs; concurrent calls share one statement.

    Args:
        timeout_seconds: the longest time of a statement, and of the wait for a connection.
    """

    def __init__(self, statements: Statements, *, timeout_seconds: float) -> None:
        self._statements = statements
        self._rows: Coalescer[str, dict[UUID, Dates]] = Coalescer(
            self._insert,
            most=MOST_JOBS,
            seconds=4 * timeout_seconds,
            late=lambda: psycopg2.OperationalError("the database was too busy"),
            unanswered=lambda: OutcomeUnknown("the database was too slow"),
        )

    def insert(self, job: Job, key: RequestKey) -> bool:
        """Insert a queued job and set its dates by the clock of the database.

        Returns False if the cached key has changed, or if the key was revoked after its read.

        Raises one of `DATABASE_AWAY` if the database is away or too slow; `OutcomeUnknown` if the
        job may exist or may still be inserted.
        """
        row = _row(job, key.version if key.is_cached else None)
        added = self._run([row]) if len(row) > LARGE_CHARACTERS else self._rows.call(row)
        if job.id not in added:
            return False
        job.created_at, job.expires_at = added[job.id]
        return True

    def _insert(self, rows: Sequence[str]) -> list[dict[UUID, Dates] | Exception]:
        """Insert rows; return for each row the inserted jobs, or its error."""
        try:
            return [self._run(rows)] * len(rows)
        except psycopg2.OperationalError:
            raise
        except psycopg2.DatabaseError:
            if len(rows) == 1:
                raise
            return [self._insert_alone(row) for row in rows]  # only the faulty row fails

    def _insert_alone(self, row: str) -> dict[UUID, Dates] | Exception:
        try:
            return self._run([row])
        except Exception as error:  # broad on purpose: the other rows must be inserted
            return error

    def _run(self, rows: Sequence[str]) -> dict[UUID, Dates]:
        added = self._statements.run(INSERT, (f"[{','.join(rows)}]",))
        return {job_id: (created_at, expires_at) for job_id, created_at, expires_at in added}


def _row(job: Job, key_version: str | None) -> str:
    return json.dumps(
        {
            "id": job.id.hex,
            "user_id": job.user_id.hex,
            "api_key_id": job.api_key_id.hex,
            "key_version": key_version,
            "queue": job.queue,
            "state": job.state,
            "priority": job.priority,
            "model": job.model,
            "request": job.request,
            "prompt_tokens": job.prompt_tokens,
            "charged_tokens": job.charged_tokens,
            "is_streamed": job.is_streamed,
            "request_id": job.request_id,
            "traceparent": job.traceparent,
            "created_at": job.created_at.isoformat(),
            "expires_at": None if job.expires_at is None else job.expires_at.isoformat(),
        },
        ensure_ascii=False,
    )
