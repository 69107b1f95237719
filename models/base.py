"""The declarative base, the engine and sessions. Functions in `models/` take a `Session` and never
commit: whoever opened the transaction commits it.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg2
from psycopg2 import errors
from sqlalchemy import (
    ColumnElement,
    DateTime,
    Engine,
    MetaData,
    Select,
    any_,
    create_engine,
    event,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, sessionmaker
from sqlalchemy.orm import Session as Session  # handed to the other layers

from core.settings import Settings

SessionFactory = sessionmaker[Session]

#: Rows or an index cannot be read: SQLSTATEs XX001 and XX002.
_DAMAGED = (errors.DataCorrupted, errors.IndexCorrupted)

#: Errors of the server that the driver does not count as operational, and that no statement is to
#: blame for. SQLSTATE 25006: a standby, or a primary that an operator or a failover made read-only.
#: 25P03 and 25P04: the server ended our transaction, because this process froze. 42501: its files
#: are on a read-only disk, or our role lost its rights. XX: a fault of the server, a quota of the
#: disk, or broken data.
_ALSO_AWAY = (
    errors.ReadOnlySqlTransaction,
    errors.IdleInTransactionSessionTimeout,
    errors.TransactionTimeout,
    errors.InsufficientPrivilege,
    errors.InternalError_,
    *_DAMAGED,
)

#: What drivers raise when the database is away, too slow, full or read-only: callers answer 503 or
#: try again. Operational are SQLSTATEs 08 (connection), 40 (deadlock), 53 (disk, memory or
#: connections used up), 55 (lock held), 57 (shut down, starting, out of time) and 58 (disk broken).
DATABASE_AWAY = (
    OperationalError,
    InterfaceError,
    PoolTimeout,
    psycopg2.OperationalError,
    psycopg2.InterfaceError,
    *_ALSO_AWAY,
)

#: A connection that was used this recently is believed to live.
REST_SECONDS = 1.0

#: SQLSTATEs of a statement that asks too much: it took too long, wrote too large a temporary file,
#: or has values beyond the server's limits. A wait for a lock ends before, as another error
#: (55P03): whoever has it will let go.
_TOO_MUCH = ("57014", "53400", "54")
#: SQLSTATEs of a server that is there and will not do what was asked, however often: also a
#: prepared statement that the server does not know, and a fault inside of the server.
_REFUSED = (*_TOO_MUCH, "26", "XX")

#: Keeps 10,000 rows with less memory than they take: the server writes a file to its disk.
_WRITE_A_FILE = "set local work_mem = '64kB'; select count(*) from generate_series(1, 10000)"


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own way to declare it
        datetime: DateTime(timezone=True),
        UUID: PG_UUID(as_uuid=True),
    }


def open_database(
    settings: Settings,
    *,
    pool_size: int = 0,
    is_autocommit: bool = False,
    plans_once: bool = False,
    is_serial: bool = False,
) -> Engine:
    """Return an engine; nothing connects before its first use.

    A connection that rested for a moment is tried before it is used: the server may have gone.
    Waiting for a free connection, for a statement and for a lock ends within
    `database_timeout_seconds`; a peer that answers nothing at all is given up after twice that
    where greenlets wait for it (`models/greenlet_wait.py`). As long may a transaction pause: the
    server ends one of a process that froze or whose machine is gone, and with it its locks.

    Args:
        pool_size: connections at most; 0 takes it from the settings.
        is_autocommit: each statement is a transaction of its own. For single reads and writes: it
            costs one round trip to the server instead of three.
        plans_once: what is prepared is planned once, for tables and groups of any size: rows are
            found by an index, and joined by hashing. A plan for the sizes of the moment would read
            all of a table that was small then, for as long as it is kept.
        is_serial: one process of the server runs a statement. For those that take well under a
            second: helpers take longer to start than they save, and the cores of others.
    """
    keep_plans = " -c plan_cache_mode=force_generic_plan"
    keep_plans += " -c enable_seqscan=off -c enable_nestloop=off"
    timeout = settings.database_timeout_seconds
    engine = create_engine(
        settings.database_url.get_secret_value(),
        pool_size=pool_size or settings.database_pool_size,
        isolation_level="AUTOCOMMIT" if is_autocommit else None,
        max_overflow=0,
        pool_timeout=timeout,
        pool_recycle=1800,
        hide_parameters=True,  # an error's text must not carry prompts and answers into a log
        connect_args={
            "connect_timeout": max(2, round(timeout)),
            "options": f"-c statement_timeout={round(timeout * 1000)} -c timezone=UTC"
            f" -c lock_timeout={round(timeout * 800)}"
            f" -c idle_in_transaction_session_timeout={round(timeout * 2000)}"
            + (keep_plans if plans_once else "")
            + (" -c max_parallel_workers_per_gather=0" if is_serial else ""),
            "application_name": "bountycoder",
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": round(timeout * 2000),
        },
    )
    event.listen(engine, "checkin", _note_rest)
    event.listen(engine, "checkout", _try_rested)
    event.listen(engine, "handle_error", _as_away)
    return engine


def sessions(engine: Engine) -> SessionFactory:
    return sessionmaker(engine, expire_on_commit=False)


def note_rest(info: dict[Any, Any]) -> None:
    """Note that a connection, whose `info` this is, was used until now."""
    info["rests_since"] = time.monotonic()


def _note_rest(connection: Any, record: Any) -> None:
    if "rests_since" not in record.info:
        note_rest(record.info)


def _try_rested(connection: Any, record: Any, proxy: Any) -> None:
    """Ask a connection that rested for a sign of life; the pool replaces one that is dead."""
    rests_since = record.info.pop("rests_since", None)
    if rests_since is None or time.monotonic() - rests_since < REST_SECONDS:
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute("select 1")
        if not connection.autocommit:
            connection.rollback()
    except psycopg2.Error as error:
        raise DisconnectionError from error


def _as_away(context: ExceptionContext) -> Exception | None:
    """Let SQLAlchemy raise what it wraps of `_ALSO_AWAY` as one of `DATABASE_AWAY`.

    A read-only server may be a former primary, whose connections a failover left open: the next
    connection looks up anew where the primary is.
    """
    error = context.original_exception
    if isinstance(error, errors.ReadOnlySqlTransaction):
        context.is_disconnect = True
    if isinstance(error, _ALSO_AWAY) or is_without_code(error):
        return OperationalError(context.statement, None, error, hide_parameters=True)
    return None


def why_away(error: Exception) -> str:
    """Return what one of `DATABASE_AWAY` says of the database: `read-only`, `full` or `away`."""
    cause = _cause(error)
    if isinstance(cause, errors.ReadOnlySqlTransaction):
        return "read-only"
    return "full" if isinstance(cause, errors.DiskFull) else "away"


def away_reason(error: Exception) -> str:
    """Name the driver's error below one of `DATABASE_AWAY`, without values: for a log."""
    return type(_cause(error)).__name__


def is_without_code(error: BaseException) -> bool:
    """Say whether a connection broke in a way that the driver has no class for."""
    return type(error) is psycopg2.DatabaseError and error.pgcode is None


def asks_too_much(error: Exception) -> bool:
    """Say whether one of `DATABASE_AWAY` is about what a statement asks for."""
    return _sqlstate(error).startswith(_TOO_MUCH)


def is_refused(error: Exception) -> bool:
    """Say whether one of `DATABASE_AWAY` comes back however often the statement is tried."""
    return _sqlstate(error).startswith(_REFUSED)


def is_damage(error: BaseException) -> bool:
    """Say whether one of `DATABASE_AWAY` is about rows that are damaged: all others are there."""
    return isinstance(_cause(error), _DAMAGED)


def _sqlstate(error: Exception) -> str:
    return getattr(_cause(error), "pgcode", None) or ""


def _cause(error: BaseException) -> BaseException:
    return getattr(error, "orig", None) or error


def utc_now() -> datetime:
    return datetime.now(UTC)


def database_now(session: Session) -> datetime:
    """Return the time by the clock of the database, which all programs share."""
    now: datetime = session.execute(text("select now()")).scalar_one()
    return now


def is_one_of(column: Any, query: Select[Any]) -> ColumnElement[bool]:
    """Return the condition that a column is among what a query with a limit finds.

    As an array the query runs once. PostgreSQL may run it for each row of an `in`, which takes the
    square of its time. If it locks rows, it would each time pass over those that the statement has
    changed and lock the next, beyond the limit.
    """
    condition: ColumnElement[bool] = column == any_(func.array(query.scalar_subquery()))
    return condition


def prove_writable(session: Session) -> None:
    """Ask the database whether it takes changes: a standby and a full disk do not.

    A connection to one that is read-only is given up: after a failover, the next finds the primary.

    Raises one of `DATABASE_AWAY`.
    """
    session.execute(text(_WRITE_A_FILE))
    if session.scalar(text("show transaction_read_only")) != "off":
        session.invalidate()
        raise errors.ReadOnlySqlTransaction("the database takes no changes")
