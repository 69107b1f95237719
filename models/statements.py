"""Single statements straight on a connection, for what every request of a customer runs.

Each is a transaction of its own and one round trip. A session of the ORM costs several times what
PostgreSQL takes for them: everything else goes through sessions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg2
from sqlalchemy import Engine


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement that each connection plans once, because its plan costs more than its run.

    Attributes:
        types: of its parameters, `$1` and so on.
        is_lazy: its commit is not waited for to reach the disk.
    """

    name: str
    types: str
    sql: str
    is_lazy: bool = False

    def call(self, count: int) -> str:
        """Return what runs it with this many values, in one transaction and one round trip."""
        lazily = "set local synchronous_commit = off; " if self.is_lazy else ""
        return f"{lazily}execute {self.name} ({', '.join(['%s'] * count)})"


class Statements:
    """Runs statements on the connections of an engine that commits each by itself."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(
        self, statement: str | Prepared, values: Mapping[str, Any] | Sequence[Any]
    ) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows, if it has any.

        Raises one of `DATABASE_AWAY` when the database is away or too slow.
        """
        connection = self._engine.raw_connection()
        try:
            cursor: Any = connection.cursor()
            with cursor:
                if isinstance(statement, Prepared):
                    _prepare(cursor, statement, connection.info.setdefault("prepared", set()))
                    cursor.execute(statement.call(len(values)), values)
                else:
                    cursor.execute(statement, values)
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


def _prepare(cursor: Any, statement: Prepared, known: set[str]) -> None:
    if statement.name not in known:
        cursor.execute(f"prepare {statement.name} ({statement.types}) as {statement.sql}")
        known.add(statement.name)
