"""The check at a program's start that each database connection is one session."""

from __future__ import annotations

from psycopg2.errors import DuplicatePreparedStatement, InvalidSqlStatementName
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from core.config.settings import Settings
from core.errors import LauncherError
from models.database.base import DATABASE_AWAY, open_database

#: The longest wait for a database that is away; the program then starts without the check.
PATIENCE_SECONDS = 3.0
_STATEMENT = "bountycoder_session_proof"
_TIMEOUT = "select setting from pg_settings where name = 'statement_timeout'"
#: The error of a pooler that rejects the settings of a session.
_REFUSED = "unsupported startup parameter"


def refuse_transaction_pooler(settings: Settings) -> None:
    """Stop a program whose connections lead through a transaction pooler.

    Such a pooler gives each transaction of a connection to another server process. The session
    loses its settings and prepared statements: waits have no bound, and requests fail or hang. A
    database that is away proves nothing, so it does not stop the program.

    Raises:
        LauncherError: a setting, a prepared statement or the server process did not stay the same.
    """
    seconds = min(PATIENCE_SECONDS, settings.database_timeout_seconds)
    hasty = settings.model_copy(update={"database_timeout_seconds": seconds})
    engine = open_database(hasty, pool_size=2, is_autocommit=True)
    try:
        lost = _lost(engine, timeout_ms=round(seconds * 1000))
    except DATABASE_AWAY as error:
        if _REFUSED not in str(error):
            return
        lost = "the settings of a session"
    finally:
        engine.dispose()
    if lost is not None:
        raise LauncherError(
            "a transaction pooler such as PgBouncer in transaction mode cannot be used: "
            f"DATABASE_URL leads to one that loses {lost}; "
            "connect to PostgreSQL itself, or pool sessions"
        )


def _lost(engine: Engine, *, timeout_ms: int) -> str | None:
    """Return what a session lost between two transactions; `None` if nothing."""
    with engine.connect() as ours, engine.connect() as other:
        if ours.exec_driver_sql(_TIMEOUT).scalar() != str(timeout_ms):
            return "the settings of a session"
        try:
            ours.exec_driver_sql(f"prepare {_STATEMENT} as select pg_backend_pid()")
            before = _server_process(ours)
            # A pooler gives the server process that we just used to the next transaction.
            other.exec_driver_sql("begin")
            other.exec_driver_sql("select 1")
            after = _server_process(ours)
        except DBAPIError as error:
            if isinstance(error.orig, InvalidSqlStatementName | DuplicatePreparedStatement):
                return "prepared statements"
            raise
    return None if after == before else "prepared statements"


def _server_process(connection: Connection) -> int:
    return int(connection.exec_driver_sql(f"execute {_STATEMENT}").scalar_one())
