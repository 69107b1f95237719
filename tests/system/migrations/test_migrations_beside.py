"""Migrations while the previous version still serves: docs/deployment.md."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text

from migrations.run import LOCK_MS, PAUSE_SECONDS, head_revision, upgrade
from tests.support.paths import ROOT

#: The schema of 0.1.0. No version before it is in use.
RELEASED = 6
REVISIONS = [f"{number:04}" for number in range(RELEASED + 1, int(head_revision()) + 1)]
#: An index whose build makes all writers wait.
BLOCKING_INDEX = re.compile(r"create (unique )?index (?!concurrently)\S+ on (\w+)", re.IGNORECASE)

#: The tables on which the current transaction blocks writers.
TABLES_CLOSED_TO_WRITERS = text(
    "select relation::regclass::text from pg_locks where pid = pg_backend_pid() and mode in"
    " ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')"
    " and locktype = 'relation'"
)


def _source(revision: str) -> str:
    (file,) = (ROOT / "migrations" / "versions").glob(f"{revision}_*.py")
    return file.read_text()


Columns = dict[tuple[str, str], tuple[str, bool, bool]]


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_migration_removes_nothing_that_the_previous_version_uses(
    empty_database_url: str, revision: str
) -> None:
    upgrade(empty_database_url, f"{int(revision) - 1:04}")
    engine = create_engine(empty_database_url)
    before, rules_before = _columns(engine), _rules(engine)

    with _statements() as statements:
        upgrade(empty_database_url, revision)
    after, rules_after = _columns(engine), _rules(engine)
    engine.dispose()

    tables = {table for table, _ in before}
    new = {name: column for name, column in after.items() if name not in before}
    assert {name: after.get(name) for name in before} == before
    assert [
        name
        for name, (_, is_nullable, has_default) in new.items()
        if name[0] in tables and not (is_nullable or has_default)
    ] == []
    # The previous version does not write new columns: their defaults apply.
    of_new = {(table, f"NOT NULL {column}") for table, column in new}
    assert {rule for rule in rules_after - rules_before - of_new if rule[0] in tables} == set()
    assert [
        statement
        for statement in statements
        if (found := BLOCKING_INDEX.search(statement)) and found[2] in tables
    ] == []


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_migration_never_holds_one_table_while_it_waits_for_another(
    empty_database_url: str, revision: str
) -> None:
    """A transaction that writes both tables in the other order would deadlock with it."""
    upgrade(empty_database_url, f"{int(revision) - 1:04}")
    engine = create_engine(empty_database_url)
    before = set(inspect(engine).get_table_names())
    engine.dispose()

    with _locked() as transactions:
        upgrade(empty_database_url, revision)

    assert transactions != []
    assert [tables & before for tables in transactions if len(tables & before) > 1] == []


@pytest.mark.parametrize("revision", [r for r in REVISIONS if "autocommit_block" in _source(r)])
def test_an_interrupted_migration_of_several_transactions_can_be_repeated(
    empty_database_url: str, revision: str
) -> None:
    """All its changes may exist without the mark that it is done."""
    upgrade(empty_database_url, revision)
    engine = create_engine(empty_database_url)
    with engine.begin() as connection:
        before = connection.execute(
            text("update alembic_version set version_num = :before"),
            {"before": f"{int(revision) - 1:04}"},
        )
    columns = _columns(engine)

    upgrade(empty_database_url, revision)

    assert before.rowcount == 1
    assert _columns(engine) == columns
    engine.dispose()


@pytest.mark.alone
def test_requests_pass_a_migration_that_waits_for_a_reader(empty_database_url: str) -> None:
    """A backup reads every table for a long time."""
    upgrade(empty_database_url, f"{RELEASED:04}")
    engine = create_engine(empty_database_url)
    migration = threading.Thread(target=upgrade, args=[empty_database_url])
    waits = []
    with engine.connect() as reader, engine.connect() as other:
        for table in inspect(engine).get_table_names():
            reader.execute(text(f"lock table {table} in access share mode"))
        migration.start()
        began = time.monotonic()
        while time.monotonic() - began < 2 * (LOCK_MS / 1000 + PAUSE_SECONDS):
            asked = time.monotonic()
            _use(other)
            waits.append(time.monotonic() - asked)
        is_waiting = migration.is_alive()
        reader.rollback()
    migration.join(60)

    assert is_waiting
    assert max(waits) > LOCK_MS / 1000 / 2  # it did wait for the reader
    assert max(waits) < 2 * LOCK_MS / 1000 + 1
    assert not migration.is_alive()
    with engine.connect() as connection:
        found = connection.scalar(text("select version_num from alembic_version"))
    engine.dispose()
    assert found == head_revision()


def _use(connection: Connection) -> None:
    """Read a table that every request reads."""
    connection.execute(text("select from jobs limit 1"))
    connection.commit()


def _columns(engine: Engine) -> Columns:
    """Return each column's type, whether it may be null, and whether it has a default."""
    inspector = inspect(engine)
    return {
        (table, column["name"]): (
            str(column["type"]),
            column["nullable"],
            column["default"] is not None,
        )
        for table in inspector.get_table_names()
        for column in inspector.get_columns(table)
    }


def _rules(engine: Engine) -> set[tuple[str, str]]:
    """Return the constraints and unique indexes, each with its table."""
    query = text(
        "select conrelid::regclass::text, pg_get_constraintdef(oid) from pg_constraint"
        " where conrelid <> 0 union select indrelid::regclass::text, pg_get_indexdef(indexrelid)"
        " from pg_index join pg_class c on c.oid = indrelid where indisunique"
        " and relnamespace = 'public'::regnamespace"
    )
    with engine.connect() as connection:
        return {(table, rule) for table, rule in connection.execute(query)}


@contextmanager
def _statements() -> Iterator[list[str]]:
    """Collect the statements of every engine."""
    statements: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        statements.append(" ".join(statement.split()))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@contextmanager
def _locked() -> Iterator[list[set[str]]]:
    """Collect, for each transaction of every engine, the tables that it closes to writers."""
    transactions: list[set[str]] = []

    def note(connection: Connection) -> None:
        transactions.append(set(connection.scalars(TABLES_CLOSED_TO_WRITERS)))

    event.listen(Engine, "commit", note)
    try:
        yield transactions
    finally:
        event.remove(Engine, "commit", note)
