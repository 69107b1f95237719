"""Single statements straight on a connection, for what every request of a customer runs.

Each is a transaction of its own and one round trip. A session of the ORM costs several times what
PostgreSQL takes for them: everything else goes through sessions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg2
from sqlalchemy import Engine

from core.key_secret import KeySecret
from models.api_key import LAST_USED_RESOLUTION, ApiKey, is_proved_by
from models.base import utc_now
from models.job import Job, new_job, values_of

_FIND_KEY = """
    select k.id, k.user_id, k.secret_hash, k.previous_secret_hash, k.previous_secret_expires_at,
           k.rate_limit, k.token_limit, k.monthly_token_limit, k.max_in_flight, k.priority,
           k.is_active, k.expires_at, k.last_used_at
    from api_keys k join users u on u.id = k.user_id
    where k.public_id = %(public_id)s and k.deleted_at is null and u.deleted_at is null
"""
_MARK_USED = """
    update api_keys set last_used_at = %(now)s
    where id = %(id)s and (last_used_at is null or last_used_at < %(stale)s)
"""
_READ_JOB = """
    select state, choices, error, prompt_tokens, completion_tokens, cached_tokens, attempt,
           worker_id, started_at, first_token_at, finished_at, cancel_requested_at
    from jobs where id = %(id)s
"""
_INSERT_JOB = """
    insert into jobs (
        id, user_id, api_key_id, queue, state, priority, model, request, prompt_tokens,
        completion_tokens, cached_tokens, charged_tokens, is_streamed, attempt, request_id,
        created_at, expires_at
    ) values (
        %(id)s, %(user_id)s, %(api_key_id)s, %(queue)s, %(state)s, %(priority)s, %(model)s,
        %(request)s, %(prompt_tokens)s, 0, 0, %(charged_tokens)s, %(is_streamed)s, 0,
        %(request_id)s, %(created_at)s, %(expires_at)s
    )
"""


class Statements:
    """Runs statements on the connections of an engine that commits each by itself."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, sql: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows, if it has any.

        Raises one of `DATABASE_AWAY` when the database is away or too slow.
        """
        connection = self._engine.raw_connection()
        try:
            cursor: Any = connection.cursor()
            with cursor:
                cursor.execute(sql, values)
                return cursor.fetchall() if cursor.description else []
        except psycopg2.DatabaseError:
            if connection.dbapi_connection is not None and connection.dbapi_connection.closed:
                connection.invalidate()
            raise
        except BaseException:
            connection.invalidate()  # it may stand in the middle of an answer
            raise
        finally:
            connection.close()


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """What a generation must know of the key that it came with; see `ApiKey`."""

    id: UUID
    user_id: UUID
    rate_limit: int
    token_limit: int | None
    monthly_token_limit: int | None
    max_in_flight: int | None
    priority: int
    is_active: bool
    expires_at: datetime | None
    last_used_at: datetime | None

    @classmethod
    def of(cls, key: ApiKey) -> PresentedKey:
        return cls(
            id=key.id,
            user_id=key.user_id,
            rate_limit=key.rate_limit,
            token_limit=key.token_limit,
            monthly_token_limit=key.monthly_token_limit,
            max_in_flight=key.max_in_flight,
            priority=key.priority,
            is_active=key.is_active,
            expires_at=key.expires_at,
            last_used_at=key.last_used_at,
        )


def find_presented_key(statements: Statements, secret: KeySecret) -> PresentedKey | None:
    """Return the living key of a living owner that `secret` proves."""
    rows = statements.run(_FIND_KEY, {"public_id": secret.public_id})
    if not rows:
        return None
    key_id, user_id, present, previous, previous_ends, *rest = rows[0]
    if not is_proved_by(secret, present, previous, previous_ends, utc_now()):
        return None
    return PresentedKey(key_id, user_id, *rest)


def mark_used(statements: Statements, key: PresentedKey, now: datetime) -> None:
    """Note that the key was used, at most once in `LAST_USED_RESOLUTION`."""
    stale = now - LAST_USED_RESOLUTION
    if key.last_used_at is None or key.last_used_at < stale:
        statements.run(_MARK_USED, {"id": key.id, "now": now, "stale": stale})


def insert_job(statements: Statements, job: Job) -> None:
    """Add a job that waits to be begun."""
    values = {**vars(job), "request": json.dumps(job.request, ensure_ascii=False)}
    statements.run(_INSERT_JOB, values)


def read_again(statements: Statements, job: Job) -> Job:
    """Return a job as its row is now; one whose row is gone as it was known."""
    rows = statements.run(_READ_JOB, {"id": job.id})
    if not rows:
        return job
    state, choices, error, prompt, completion, cached, attempt, worker_id, *times = rows[0]
    started_at, first_token_at, finished_at, cancel_requested_at = times
    return new_job(
        **{
            **values_of(job),
            "state": state,
            "choices": choices,
            "error": error,
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "cached_tokens": cached,
            "attempt": attempt,
            "worker_id": worker_id,
            "started_at": started_at,
            "first_token_at": first_token_at,
            "finished_at": finished_at,
            "cancel_requested_at": cancel_requested_at,
        }
    )
