"""Single statements straight on a connection, for what every request of a customer runs.

Each is a transaction of its own and one round trip. A session of the ORM costs several times what
PostgreSQL takes for them: everything else goes through sessions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg2
from sqlalchemy import Engine


class Statements:
    """Runs statements on the connections of an engine that commits each by itself."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, sql: str, values: Mapping[str, Any] | Sequence[Any]) -> list[tuple[Any, ...]]:
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
