"""The declarative base, the engine and sessions.

Functions in `models/` take a `Session` and never commit: the caller that opened the transaction
commits it.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg2
from psycopg2 import errors
from sqlalchemy import DateTime, Engine, MetaData, create_engine, event, text
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, sessionmaker
from sqlalchemy.orm import Session as Session  # handed to the other layers

from core.config.settings import Settings

SessionFactory = sessionmaker[Session]

#: PostgreSQL cannot read rows or an index: SQLSTATEs XX001 and XX002.
_DAMAGED = (errors.DataCorrupted, errors.IndexCorrupted)

#: Errors of the server that the driver does not count as operational, and no statement causes.
#: SQLSTATEs:
#: - 25006: a standby, or a primary that an operator or a failover made read-only.
#: - 25P03 and 25P04: the server ended our transaction because this process froze.
#: - 42501: the server's files are on a read-only disk, or our role lost its rights.
#: - XX: an internal error of the server, a quota of the disk, or damaged data.
_ALSO_AWAY = (
    errors.ReadOnlySqlTransaction,
    errors.IdleInTransactionSessionTimeout,
    errors.TransactionTimeout,
    errors.InsufficientPrivilege,
    errors.InternalError_,
    *_DAMAGED,
)

#: Errors that drivers raise when the database is away, too slow, full or read-only: callers respond
#: with 503 or retry. Operational are SQLSTATEs 08 (connection), 40 (deadlock), 53 (disk, memory or
#: connections used up), 55 (lock held), 57 (shut down, starting, out of time) and 58 (disk broken).
DATABASE_AWAY = (
    OperationalError,
    InterfaceError,
    PoolTimeout,
    psycopg2.OperationalError,
    psycopg2.InterfaceError,
    *_ALSO_AWAY,
)

#: A connection that was idle for less than this is not tested before its use.
TRUSTED_IDLE_SECONDS = 1.0

#: SQLSTATEs of a statement that asks too much: it took too long, wrote too large a temporary file,
#: or has values beyond the server's limits. A wait for a lock ends earlier with another error
#: (55P03), because the holder will release the lock.
_TOO_MUCH = ("57014", "53400", "54")
#: SQLSTATEs of a server that is up and rejects the statement on every retry. They include an
#: unknown prepared statement and an internal error of the server.
_REFUSED = (*_TOO_MUCH, "26", "XX")

#: 10,000 rows need more than this memory, so the server writes a file to its disk.
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
    has_generic_plans: bool = False,
    is_serial: bool = False,
) -> Engine:
    """Return an engine, which connects at its first use.

    - A connection that was idle for a moment is tested before its use: the server may have gone.
    - Waits for a free connection, a statement or a lock end within `database_timeout_seconds`.
    - Greenlets give up a server that does not respond at all after twice that
      (`models/database/greenlet_wait.py`).
    - A transaction may be idle for twice that, too. Then the server ends it and releases its locks:
      its process froze, or its machine is gone.

    Args:
        pool_size: the most connections; 0 uses the settings.
        is_autocommit: make each statement its own transaction. Use it for single reads and writes:
            they cost one round trip instead of three.
        has_generic_plans: plan each prepared statement once, for tables and groups of any size. The
            plan finds rows by an index and joins them by hashing. A plan for a small table would
            continue to read all of it after it has grown.
        is_serial: run each statement in one process of the server. Use it for statements of well
            under a second: parallel workers save less time than their start takes, and they
            occupy cores that others need.
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
        hide_parameters=True,  # errors must not write prompts and completions to a log
        connect_args={
            "connect_timeout": max(2, round(timeout)),
            "options": f"-c statement_timeout={round(timeout * 1000)} -c timezone=UTC"
            f" -c lock_timeout={round(timeout * 800)}"
            f" -c idle_in_transaction_session_timeout={round(timeout * 2000)}"
            + (keep_plans if has_generic_plans else "")
            + (" -c max_parallel_workers_per_gather=0" if is_serial else ""),
            "application_name": "bountycoder",
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": round(timeout * 2000),
        },
    )
    event.listen(engine, "checkin", _note_idle)
    event.listen(engine, "checkout", _test_idle)
    event.listen(engine, "handle_error", _as_away)
    return engine


def sessions(engine: Engine) -> SessionFactory:
    return sessionmaker(engine, expire_on_commit=False)


def note_idle(info: dict[Any, Any]) -> None:
    """Record in a connection's `info` that it was used until now."""
    info["idle_since"] = time.monotonic()


def _note_idle(connection: Any, record: Any) -> None:
    if "idle_since" not in record.info:
        note_idle(record.info)


def _test_idle(connection: Any, record: Any, proxy: Any) -> None:
    """Test a connection that was idle; the pool replaces a dead one."""
    idle_since = record.info.pop("idle_since", None)
    if idle_since is None or time.monotonic() - idle_since < TRUSTED_IDLE_SECONDS:
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute("select 1")
        if not connection.autocommit:
            connection.rollback()
    except psycopg2.Error as error:
        raise DisconnectionError from error


def _as_away(context: ExceptionContext) -> Exception | None:
    """Convert an error of `_ALSO_AWAY` to one of `DATABASE_AWAY`.

    A read-only server may be a former primary whose connections a failover left open. The pool
    drops them, so that the next connection resolves the address of the primary again.
    """
    error = context.original_exception
    if isinstance(error, errors.ReadOnlySqlTransaction):
        context.is_disconnect = True
    if isinstance(error, _ALSO_AWAY) or is_without_code(error):
        return OperationalError(context.statement, None, error, hide_parameters=True)
    return None


def away_kind(error: Exception) -> str:
    """Return how the database is away: `read-only`, `full` or `away`."""
    cause = _cause(error)
    if isinstance(cause, errors.ReadOnlySqlTransaction):
        return "read-only"
    return "full" if isinstance(cause, errors.DiskFull) else "away"


def away_reason(error: Exception) -> str:
    """Return the name of the driver's error for a log; it contains no values."""
    return type(_cause(error)).__name__


def is_without_code(error: BaseException) -> bool:
    """Say whether a connection broke with an error that has no class and no code."""
    return type(error) is psycopg2.DatabaseError and error.pgcode is None


def is_too_expensive(error: Exception) -> bool:
    """Return whether the statement took too long or asked for too much."""
    return _sqlstate(error).startswith(_TOO_MUCH)


def is_permanent(error: Exception) -> bool:
    """Return whether every retry of the statement would raise the error again."""
    return _sqlstate(error).startswith(_REFUSED)


def is_damage(error: BaseException) -> bool:
    """Say whether an error of `DATABASE_AWAY` concerns only damaged rows.

    All other rows can be read.
    """
    return isinstance(_cause(error), _DAMAGED)


def _sqlstate(error: Exception) -> str:
    return getattr(_cause(error), "pgcode", None) or ""


def _cause(error: BaseException) -> BaseException:
    return getattr(error, "orig", None) or error


def utc_now() -> datetime:
    return datetime.now(UTC)


def database_now(session: Session) -> datetime:
    """Return the time of the database's clock, which all programs share."""
    now: datetime = session.execute(text("select now()")).scalar_one()
    return now


def check_writable(session: Session) -> None:
    """Check that the database accepts changes: a standby and a full disk do not.

    Drops a connection to a read-only server: after a failover, the next one finds the primary.

    Raises one of `DATABASE_AWAY` if the database does not accept changes.
    """
    session.execute(text(_WRITE_A_FILE))
    if session.scalar(text("show transaction_read_only")) != "off":
        session.invalidate()
        raise errors.ReadOnlySqlTransaction("the database takes no changes")
