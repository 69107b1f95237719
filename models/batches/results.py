"""The results of a batch in pages, in the order of its lines."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from models.database.prepared import Statements
from models.jobs.job import Job, JobState, new_job

#: The most lines of a page: parsing their JSON must delay no other request.
MOST_LINES = 100
#: A page ends with the line that exceeds this many bytes of completions, as stored. PostgreSQL
#: compresses them to a half or less. One completion has up to 10 MB, so a page may be large.
MOST_STORED_BYTES = 256 * 1024

#: PostgreSQL knows a completion's size without reading it, and reads only the page's completions.
_READ = f"""
    select id, line, custom_id, state, model, choices, error, is_cached, created_at, started_at,
        prompt_tokens, completion_tokens, cached_tokens
    from (
        select found.*, sum(size) over (order by line) - size as before
        from (
            select id, line, custom_id, state, model, choices, error, is_cached, created_at,
                started_at, prompt_tokens, completion_tokens, cached_tokens,
                coalesce(pg_column_size(choices), 0) as size
            from jobs
            where batch_id = %(batch_id)s and line > %(after)s and state = any(%(states)s)
            order by line limit {MOST_LINES}
        ) as found
    ) as counted
    where before < {MOST_STORED_BYTES} order by line
"""
_COLUMNS = (
    "id",
    "line",
    "custom_id",
    "state",
    "model",
    "choices",
    "error",
    "is_cached",
    "created_at",
    "started_at",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
)


def read_results(
    statements: Statements, batch_id: UUID, *, after: int, states: Collection[JobState]
) -> list[Job]:
    """Return the next lines that ended in these states, after the line `after`.

    An empty list is the end. The jobs belong to no session.
    """
    wanted = [state.value for state in states]
    rows = statements.run(_READ, {"batch_id": batch_id, "after": after, "states": wanted})
    return [new_job(**dict(zip(_COLUMNS, row, strict=True))) for row in rows]
