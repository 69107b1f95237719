"""Bring a database to a revision of its schema, beside a service that runs on it.

Two migrations wait for each other. A change of a table waits for transactions that use it, and all
later ones wait behind the change. So it waits for a moment only, and the migration is retried from
the last revision that was reached. Indexes are built concurrently: the service waits for none.
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
#: Of all that another may have to do.
TURN_SECONDS = 3600.0
#: How long a change of a table may wait for its lock, and everybody else behind it.
LOCK_MS = 1000
#: Between two tries, for those who waited.
PAUSE_SECONDS = 1.0
#: A backup of a large database reads for hours.
LOCKS_SECONDS = 12 * 3600.0


def upgrade(database_url: str, revision: str = "head") -> None:
    """Migrate up to `revision`; does nothing where the schema is there already."""
    _migrate(database_url, lambda config: command.upgrade(config, revision))


def downgrade(database_url: str, revision: str) -> None:
    """Migrate down to `revision` (`base` removes everything)."""
    _migrate(database_url, lambda config: command.downgrade(config, revision))


def head_revision() -> str:
    """Return the revision that this version of the code is made for."""
    return str(_scripts().get_current_head())


def is_known(revision: str) -> bool:
    """Say whether this version of the code can bring a schema of this revision up to date."""
    return revision in {script.revision for script in _scripts().walk_revisions()}


def _migrate(database_url: str, change: Callable[[Config], None]) -> None:
    """Make a change, as often as it does not get a lock.

    Raises:
        OperationalError: the database is away, or never gave the lock.
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
    """Bound the waits of a transaction: not those of what runs outside of any, such as an index
    that is built concurrently, which waits for others while none waits for it.
    """
    if connection.get_isolation_level() != "AUTOCOMMIT":
        connection.exec_driver_sql(f"set local lock_timeout = {LOCK_MS}")


def _take_turn(connection: Connection) -> None:
    """Wait until no other migrates: two machines may both do so at their start.

    It asks again and again: one that waits inside a statement would be waited for by the other,
    which builds an index beside running transactions.
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
