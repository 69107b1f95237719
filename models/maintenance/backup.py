"""A backup's view of the database: tables, their contents, and other connections.

It reads the tables from the catalogue instead of our models, because a restored database may have
the schema of an earlier version.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, NullPool, create_engine, make_url, text

CONNECT_SECONDS = 10
#: The limit for locks; statements have none.
LOCK_SECONDS = 30
#: The name of the service's own connections, see `open_database`.
_SERVICE = "bountycoder"


@dataclass(frozen=True, slots=True)
class TableCount:
    """The number of rows of a table, and the sum of each of its columns of tokens."""

    rows: int
    tokens: dict[str, int]


@contextmanager
def backup_connection(
    url: str, *, purpose: str, is_autocommit: bool = False
) -> Iterator[Connection]:
    """Connect without a limit for statements; close the connection after the block."""
    options = "-c timezone=UTC -c statement_timeout=0 -c idle_in_transaction_session_timeout=0"
    engine = create_engine(
        url,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT" if is_autocommit else None,
        hide_parameters=True,
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "application_name": f"{_SERVICE} {purpose}",
            "options": f"{options} -c lock_timeout={LOCK_SECONDS}s",
        },
    )
    with engine.connect() as connection:
        yield connection


def libpq_values(url: str) -> dict[str, str]:
    """Return the connection parameters that PostgreSQL's own programs need for a URL."""
    parsed = make_url(url)
    _, values = parsed.get_dialect()().create_connect_args(parsed)
    return {name: str(value) for name, value in values.items()}


def begin_snapshot(connection: Connection) -> str:
    """Make this transaction a read-only snapshot, and return the snapshot's name.

    Other connections use the name. The call must be the first one in the transaction.
    """
    connection.execute(text("set transaction isolation level repeatable read, read only"))
    return str(connection.scalar(text("select pg_export_snapshot()")))


def server_version(connection: Connection) -> int:
    """Return the major version of the server."""
    number = connection.scalar(text("select current_setting('server_version_num')::integer"))
    return int(number) // 10_000


def is_replica(connection: Connection) -> bool:
    """Say whether the server is a replica, which accepts no writes."""
    return bool(connection.scalar(text("select pg_is_in_recovery()")))


def schema_revision(connection: Connection) -> str | None:
    """Return the schema's revision of our migrations; `None` if it has none."""
    if "alembic_version" not in table_names(connection):
        return None
    return connection.execute(text("select version_num from alembic_version")).scalar_one_or_none()


def table_names(connection: Connection) -> list[str]:
    return list(
        connection.scalars(
            text(
                "select relname::text from pg_class where relkind in ('r', 'p')"
                " and relnamespace = 'public'::regnamespace order by 1"
            )
        )
    )


def count_tables(connection: Connection) -> dict[str, TableCount]:
    """Count the rows of all tables and sum their tokens."""
    return {name: _count(connection, name) for name in table_names(connection)}


def tables_with_rows(connection: Connection) -> list[str]:
    """Return the tables that have rows; a new schema has none."""
    quote = connection.dialect.identifier_preparer.quote
    return [
        name
        for name in table_names(connection)
        if name != "alembic_version"
        and connection.scalar(text(f"select exists (select 1 from public.{quote(name)})"))
    ]


def service_connections(connection: Connection) -> int:
    """Count the connections of the running service."""
    query = text(
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and application_name = :name"
    )
    return int(connection.scalar(query, {"name": _SERVICE}) or 0)


def analyze(connection: Connection) -> None:
    """Update the statistics of the planner."""
    connection.execute(text("analyze"))


def create_database(connection: Connection, name: str) -> None:
    """Create an empty database; needs the right to do so, and `is_autocommit`."""
    quoted = connection.dialect.identifier_preparer.quote(name)
    connection.execute(text(f"create database {quoted} template template0 encoding 'UTF8'"))


def drop_database(connection: Connection, name: str) -> None:
    quoted = connection.dialect.identifier_preparer.quote(name)
    connection.execute(text(f"drop database if exists {quoted} with (force)"))


def sibling_url(url: str, name: str) -> str:
    """Return the URL of another database of the same server."""
    return make_url(url).set(database=name).render_as_string(hide_password=False)


def target_url(url: str, given: str) -> str:
    """Return the URL `given`, with the password of `url` if it has none.

    Raises:
        ValueError: `given` has a password or cannot be parsed.
    """
    try:
        target = make_url(given)
    except Exception as error:  # SQLAlchemy's own, and ValueError for a port
        raise ValueError("it is no database's URL") from error
    if target.password is not None or "password" in target.query:
        raise ValueError("a password on the command line can be read by others: leave it out")
    password = make_url(url).password
    return target.set(password=password).render_as_string(hide_password=False)


def _count(connection: Connection, table: str) -> TableCount:
    quote = connection.dialect.identifier_preparer.quote
    columns = list(
        connection.scalars(
            text(
                "select attname::text from pg_attribute"
                " where attrelid = format('public.%I', cast(:table as text))::regclass"
                " and attnum > 0 and not attisdropped and attname like '%\\_tokens'"
                " and atttypid in ('integer'::regtype, 'bigint'::regtype) order by attnum"
            ),
            {"table": table},
        )
    )
    sums = "".join(f", coalesce(sum({quote(name)}), 0)::text" for name in columns)
    row = connection.execute(text(f"select count(*){sums} from public.{quote(table)}")).one()
    return TableCount(
        row[0], {name: int(value) for name, value in zip(columns, row[1:], strict=True)}
    )
