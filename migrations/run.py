"""Brings a database to a revision of its schema while the service runs.

Only one process migrates at a time. A change of a table waits for the transactions that use it, and
all later ones wait behind the change. So it waits only briefly, and the migration is retried from
the last finished revision. Indexes are built concurrently, so that the service does not wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg2.errors import LockNotAvailable
from sqlalchemy import Connection, NullPool, create_engine, event, text
from sqlalchemy.exc import OperationalError

from core.errors import LauncherError
from models.database.locks import ServiceLock

POLL_SECONDS = 0.1
#: The longest wait for the migration of another process.
TURN_SECONDS = 3600.0
#: The time that a change of a table waits for its lock, and all requests behind it.
LOCK_MS = 1000
#: The pause between two tries, in which waiting requests proceed.
PAUSE_SECONDS = 1.0
#: The time for all tries. A backup of a large database reads for hours.
LOCKS_SECONDS = 12 * 3600.0


def upgrade(database_url: str, revision: str = "head") -> None:
    """Migrate up to `revision`; a schema that is there stays unchanged."""
    _migrate(database_url, lambda config: command.upgrade(config, revision))


def downgrade(database_url: str, revision: str) -> None:
    """Migrate down to `revision` (`base` removes everything)."""
    _migrate(database_url, lambda config: command.downgrade(config, revision))


def head_revision() -> str:
    """Return the revision that this version of the code needs."""
    return str(_scripts().get_current_head())


def is_known(revision: str) -> bool:
    """Say whether this version of the code can upgrade a schema of this revision."""
    return revision in {script.revision for script in _scripts().walk_revisions()}


def _migrate(database_url: str, change: Callable[[Config], None]) -> None:
    """Run a migration, and retry it while it gets no lock.

    Raises:
        OperationalError: the database is away, or gave no lock within `LOCKS_SECONDS`.
    """
    deadline = time.monotonic() + LOCKS_SECONDS
    with _migrating(database_url) as connection:
        while True:
            try:
                change(_config(connection))
                connection.commit()
                return
            except OperationalError as error:
                is_in_use = isinstance(error.orig, LockNotAvailable)
                if not is_in_use or time.monotonic() > deadline:
                    raise
                connection.rollback()
            time.sleep(PAUSE_SECONDS)


@contextmanager
def _migrating(database_url: str) -> Iterator[Connection]:
    engine = create_engine(database_url, poolclass=NullPool)
    with engine.connect() as connection:
        _take_turn(connection)
        event.listen(connection, "begin", _wait_shortly)
        yield connection  # closing the connection frees the lock


def _wait_shortly(connection: Connection) -> None:
    """Bound the waits for locks of a transaction.

    Statements outside a transaction have no bound: a concurrent index build waits for others, but
    nothing waits for it.
    """
    if connection.get_isolation_level() != "AUTOCOMMIT":
        connection.exec_driver_sql(f"set local lock_timeout = {LOCK_MS}")


def _take_turn(connection: Connection) -> None:
    """Wait until no other process migrates: two machines may start at the same time.

    It polls the lock. If it waited inside a statement, the other process would wait for this
    statement when it builds an index concurrently.
    """
    deadline = time.monotonic() + TURN_SECONDS
    attempt = text("select pg_try_advisory_lock(:key)")
    while not connection.scalar(attempt, {"key": int(ServiceLock.MIGRATION)}):
        connection.commit()
        if time.monotonic() > deadline:
            raise LauncherError("another process has migrated this database for too long")
        time.sleep(POLL_SECONDS)
    connection.commit()


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(Path(__file__).parent))


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config
