"""Single statements directly on a connection, for the path of each request.

Each statement is one transaction and one round trip. For such short statements, an ORM session
costs several times the work of PostgreSQL. All other code uses sessions.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg2
from psycopg2.errors import ReadOnlySqlTransaction
from sqlalchemy import Engine, PoolProxiedConnection

from models.database.base import TRUSTED_IDLE_SECONDS, is_without_code, note_idle

#: SQLSTATEs of a server that shuts down: it may have executed the statement.
_SERVER_ENDS = "57P"


class OutcomeUnknown(psycopg2.OperationalError):
    """The response to a statement was lost: the server may execute it, even later."""


#: Connections return to the pool after this time: it tests idle ones and replaces old ones.
KEEP_SECONDS = TRUSTED_IDLE_SECONDS


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement that each connection plans once.

    It saves time if planning costs more than running.

    Attributes:
        types: the types of the parameters `$1`, `$2` and so on.
        has_async_commit: the commit does not wait for the disk.
    """

    name: str
    types: str
    sql: str
    has_async_commit: bool = False

    def call(self, count: int) -> str:
        """Return the SQL that runs the statement with `count` values.

        It is one transaction and one round trip.
        """
        lazily = "set local synchronous_commit = off; " if self.has_async_commit else ""
        return f"{lazily}execute {self.name} ({', '.join(['%s'] * count)})"


class Statements:
    """Runs statements on the connections of an engine that commits each statement.

    It keeps some connections for a moment. Returning a connection to the pool and taking it again
    takes longer than all other work here for a statement.

    Args:
        max_idle: the most connections to keep; the engine's other users share the rest.
    """

    def __init__(self, engine: Engine, *, max_idle: int) -> None:
        self._engine = engine
        self._max_idle = max_idle
        self._idle: deque[_IdleConnection] = deque()

    def run(
        self, statement: str | Prepared, values: Mapping[str, Any] | Sequence[Any]
    ) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows, if it has any.

        Raises one of `DATABASE_AWAY` if the database is away or too slow; `OutcomeUnknown` if the
        response was lost.
        """
        taken = self._take()
        connection = taken.connection
        try:
            cursor: Any = connection.cursor()
            with cursor:
                if isinstance(statement, Prepared):
                    _prepare(cursor, statement, connection.info.setdefault("prepared", set()))
                    cursor.execute(statement.call(len(values)), values)
                else:
                    cursor.execute(statement, values)
                rows = cursor.fetchall() if cursor.description else []
        except psycopg2.DatabaseError as error:
            if _is_spoiled(connection, error):
                connection.invalidate()
            connection.close()
            if _is_unanswered(error):
                raise OutcomeUnknown(*error.args) from error
            raise
        except BaseException:
            connection.invalidate()  # it may be in the middle of a response
            connection.close()
            raise
        self._give_back(taken)
        return rows

    def _take(self) -> _IdleConnection:
        while self._idle:
            try:
                idle = self._idle.pop()
            except IndexError:  # another thread took the last one
                break
            if time.monotonic() < idle.until:
                return idle
            idle.connection.close()
        return _IdleConnection(self._engine.raw_connection(), time.monotonic() + KEEP_SECONDS)

    def _give_back(self, taken: _IdleConnection) -> None:
        note_idle(taken.connection.info)
        if len(self._idle) < self._max_idle:
            self._idle.append(taken)
        else:
            taken.connection.close()


class _IdleConnection(NamedTuple):
    """A connection of the pool, and until when it may be used without the pool."""

    connection: PoolProxiedConnection
    until: float


def _is_spoiled(connection: PoolProxiedConnection, error: psycopg2.Error) -> bool:
    """Say whether a connection has ended or leads to a read-only server."""
    if isinstance(error, ReadOnlySqlTransaction):
        return True
    return connection.dbapi_connection is not None and connection.dbapi_connection.closed != 0


def _is_unanswered(error: psycopg2.DatabaseError) -> bool:
    if not isinstance(error, psycopg2.OperationalError):
        return is_without_code(error)
    return error.pgcode is None or error.pgcode.startswith(_SERVER_ENDS)


def _prepare(cursor: Any, statement: Prepared, known: set[str]) -> None:
    if statement.name not in known:
        cursor.execute(f"prepare {statement.name} ({statement.types}) as {statement.sql}")
        known.add(statement.name)
