"""Bring a database to a revision of its schema. Two at once wait for each other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, text

from core.errors import LauncherError

#: Held while the schema changes, so that two machines may both migrate at start.
_MIGRATION_LOCK = 7_268_400
POLL_SECONDS = 0.1
#: Of all that another may have to do.
TURN_SECONDS = 3600.0


def upgrade(database_url: str, revision: str = "head") -> None:
    """Migrate up to `revision`; does nothing where the schema is there already."""
    with _migrating(database_url) as connection:
        command.upgrade(_config(connection), revision)
        connection.commit()


def downgrade(database_url: str, revision: str) -> None:
    """Migrate down to `revision` (`base` removes everything)."""
    with _migrating(database_url) as connection:
        command.downgrade(_config(connection), revision)
        connection.commit()


def head_revision() -> str:
    """Return the revision that this version of the code is made for."""
    return str(_scripts().get_current_head())


def is_known(revision: str) -> bool:
    """Say whether this version of the code can bring a schema of this revision up to date."""
    return revision in {script.revision for script in _scripts().walk_revisions()}


def new_revision(database_url: str, message: str) -> None:
    """Write a migration file with what the models have and the schema has not."""
    with _migrating(database_url) as connection:
        command.revision(_config(connection), message=message, autogenerate=True)


@contextmanager
def _migrating(database_url: str) -> Iterator[Connection]:
    engine = create_engine(database_url, poolclass=NullPool)
    with engine.connect() as connection:
        _take_turn(connection)
        yield connection  # closing the connection frees the lock


def _take_turn(connection: Connection) -> None:
    """Wait until no other migrates.

    It asks again and again: one that waits inside a statement would be waited for by the other,
    which builds an index beside running transactions.
    """
    deadline = time.monotonic() + TURN_SECONDS
    attempt = text("select pg_try_advisory_lock(:key)")
    while not connection.scalar(attempt, {"key": _MIGRATION_LOCK}):
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
