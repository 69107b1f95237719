"""Databases on the run's server that are copies of another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, create_engine, text

#: A database with our schema that others are copied from: much sooner than by the migrations.
MIGRATED = "migrated"


@contextmanager
def own_database(url: str, name: str, *, template: str) -> Iterator[str]:
    """Copy a database on the server of `url`, and drop the copy again."""
    with maintenance(url) as connection:
        connection.execute(text(f"drop database if exists {name} with (force)"))
        connection.execute(text(f"create database {name} template {template}"))
    yield url.rsplit("/", 1)[0] + f"/{name}"
    with maintenance(url) as connection:
        connection.execute(text(f"drop database {name} with (force)"))


@contextmanager
def maintenance(url: str) -> Iterator[Connection]:
    """Connect to the server's own database, to create and drop others."""
    engine = create_engine(url.rsplit("/", 1)[0] + "/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()
