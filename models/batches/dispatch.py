"""The dispatcher's reads and writes: open batches, held lines, and releases."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.generation import DEFAULT_MAX_TOKENS
from models.batches.batch import BatchState
from models.database.locks import ServiceLock, try_lock

#: The most tokens that a line may use. A request has only the fields that the caller sent.
LINE_TOKENS = f"""(prompt_tokens
    + coalesce((request ->> 'maxTokens')::integer, {DEFAULT_MAX_TOKENS})
    * coalesce((request ->> 'n')::integer, 1))"""
#: The condition for a held line.
HELD = "state = 'queued' and is_held"

_OPEN = text(
    """
    select b.id, b.api_key_id, b.state, b.started_at is not null as has_started,
           b.expires_at < now() as is_due,
           b.succeeded + b.failed + b.cancelled + b.expired = b.total as is_done,
           k.deleted_at is not null or u.deleted_at is not null as is_orphan,
           k.is_active and u.is_active
               and (k.expires_at is null or k.expires_at > now()) as has_live_key,
           k.monthly_token_limit
    from batches b join api_keys k on k.id = b.api_key_id join users u on u.id = b.user_id
    where b.finished_at is null
    order by b.api_key_id, b.id
    """
)
_COUNT_RELEASED = text(
    """
    select count(*) from jobs
    where batch_id is not null and not is_held and state = 'queued'
    """
)
_NEXT_LINES = f"""
    select wanted.batch_id, held.line, held.id, held.tokens
    from unnest(%(batches)s::uuid[], %(afters)s::integer[], %(counts)s::integer[])
        as wanted (batch_id, after, most)
    cross join lateral (
        select id, line, {LINE_TOKENS} as tokens
        from jobs
        where batch_id = wanted.batch_id and {HELD} and line > wanted.after
        order by line limit wanted.most
    ) as held
    order by wanted.batch_id, held.line
"""
#: Skips lines that another transaction is changing, so that a release never waits.
_RELEASE = f"""
    update jobs set is_held = false, released_at = clock_timestamp(), charged_tokens = wanted.tokens
    from jsonb_to_recordset(%(lines)s::jsonb) as wanted (id uuid, tokens integer)
    where jobs.id = wanted.id and {HELD} and jobs.id = any(array(
        select id from jobs where id = any(%(ids)s::uuid[]) and {HELD}
        order by id for update skip locked
    ))
    returning jobs.id
"""
_NOTE_START = text(
    "update batches set started_at = now() where id = :id and started_at is null",
)


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch that has not ended.

    Attributes:
        is_due: the expiry of the batch has passed.
        is_done: all lines have ended.
        is_orphan: the key or its user was deleted.
        has_live_key: the key may be used. A key that is switched off, expired or of a suspended
            user may become usable again.
    """

    id: UUID
    api_key_id: UUID
    state: str
    has_started: bool
    is_due: bool
    is_done: bool
    is_orphan: bool
    has_live_key: bool
    monthly_token_limit: int | None

    @property
    def may_run(self) -> bool:
        """Whether the dispatcher may release lines.

        Lines of a key that is switched off wait until the key is switched on.
        """
        return self.state == BatchState.RUNNING and self.has_live_key and not self.is_due

    @property
    def must_hold(self) -> bool:
        """Whether no line may run until the key is usable again."""
        return self.state == BatchState.RUNNING and not (self.has_live_key or self.is_orphan)


class HeldLine(NamedTuple):
    """A line that waits for its release, and the most tokens that it may use."""

    batch_id: UUID
    line: int
    id: UUID
    tokens: int


def open_batches(session: Session) -> list[OpenBatch]:
    return [OpenBatch(*row) for row in session.execute(_OPEN)]


def try_to_dispatch(session: Session) -> bool:
    """Take the dispatcher's lock until the transaction ends.

    Returns False if another process holds it.
    """
    return try_lock(session, ServiceLock.BATCH_DISPATCH)


def count_released(session: Session) -> int:
    """Return how many released lines wait for a worker."""
    return session.scalar(_COUNT_RELEASED) or 0


def next_lines(
    session: Session, wanted: Mapping[UUID, int], afters: Mapping[UUID, int]
) -> list[HeldLine]:
    """Return the next held lines of each batch, in order.

    Args:
        wanted: the most lines of each batch.
        afters: return only lines after this one of the batch; released lines come before it.
    """
    values = {
        "batches": [str(batch_id) for batch_id in wanted],
        "counts": list(wanted.values()),
        "afters": [afters.get(batch_id, 0) for batch_id in wanted],
    }
    rows = session.connection().exec_driver_sql(_NEXT_LINES, values)
    return [HeldLine(*row) for row in rows]


def release_lines(session: Session, lines: Sequence[HeldLine]) -> set[UUID]:
    """Release lines and charge each with its tokens.

    Returns the ids of the released lines. The others were released before, have ended or are being
    changed.
    """
    values = {
        "ids": [str(line.id) for line in lines],
        "lines": json.dumps([{"id": str(line.id), "tokens": line.tokens} for line in lines]),
    }
    return set(session.connection().exec_driver_sql(_RELEASE, values).scalars())


def note_start(session: Session, batch_ids: Iterable[UUID]) -> None:
    """Record the start of batches whose first lines were released."""
    for batch_id in sorted(batch_ids):
        session.execute(_NOTE_START, {"id": batch_id})
