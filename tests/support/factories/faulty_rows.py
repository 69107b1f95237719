"""Changes that the database refuses, as a broken constraint would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy import text

from models.database.base import SessionFactory

#: SQLSTATEs of a violated constraint and of a row that is damaged on the disk.
CODES = ("23514", "XX001")


@contextmanager
def refused(
    database: SessionFactory, when: str, table: str, condition: str, *, code: str = CODES[0]
) -> Iterator[None]:
    """Make PostgreSQL refuse changes (`when`: `before update`) of some rows with this error."""
    returned = "old" if "delete" in when else "new"
    with database.begin() as session:
        session.execute(
            text(
                f"""
                create function refuse() returns trigger language plpgsql as $$
                begin
                    if {condition} then raise exception 'refused' using errcode = '{code}'; end if;
                    return {returned};
                end $$;
                create trigger refuse {when} on {table} for each row execute function refuse();
                """
            )
        )
    try:
        yield
    finally:
        with database.begin() as session:
            session.execute(text("drop function refuse cascade"))


def is_row(column: str, value: UUID) -> str:
    return f"{column} = '{value}'"
