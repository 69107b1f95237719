"""The database role of Grafana: which columns it can read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import InternalError, OperationalError, ProgrammingError

from cli.main import main
from cli.monitoring.command import create_reader
from core.config.settings import Settings
from models.database.base import SessionFactory, open_database
from models.monitoring.grafana_role import READABLE, ROLE
from models.schema import metadata

PASSWORD = "a password of the dashboards"


@pytest.fixture
def reader(base_settings: Settings, database: SessionFactory) -> Iterator[Engine]:
    """An engine that connects as the role."""
    create_reader(base_settings, PASSWORD)
    engine = as_reader(base_settings, PASSWORD)
    yield engine
    engine.dispose()


def as_reader(settings: Settings, password: str) -> Engine:
    url = make_url(settings.database_url.get_secret_value())
    return create_engine(url.set(username=ROLE, password=password))


def test_only_the_named_columns_can_be_read(reader: Engine) -> None:
    refused, read = set(), set()
    with reader.connect() as connection:
        for table in metadata.sorted_tables:
            for column in table.columns:
                try:
                    connection.execute(text(f"select {column.name} from {table.name} limit 1"))
                    read.add((table.name, column.name))
                except ProgrammingError as error:
                    assert "permission denied" in str(error)
                    refused.add((table.name, column.name))
                    connection.rollback()

    assert read == {(table, column) for table, columns in READABLE.items() for column in columns}
    assert {
        ("users", "password_hash"),
        ("api_keys", "secret_hash"),
        ("api_keys", "previous_secret_hash"),
        ("jobs", "request"),
        ("jobs", "choices"),
    } <= refused


@pytest.mark.parametrize(
    "statement",
    [
        "insert into users (id) values (gen_random_uuid())",
        "update users set role = 'admin'",
        "delete from usage_hourly",
        "create table mine (a int)",
        "select pg_read_file('/etc/passwd')",
        "select * from pg_authid",
        "copy (select id from users) to program 'cat'",
    ],
)
def test_the_role_cannot_change_data_or_leave_the_database(reader: Engine, statement: str) -> None:
    with reader.connect() as connection:
        connection.execute(text("set session characteristics as transaction read write"))
        connection.commit()
        with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
            connection.execute(text(statement))


def test_transactions_of_the_role_are_read_only_and_time_out(reader: Engine) -> None:
    with reader.connect() as connection:
        assert connection.scalar(text("show statement_timeout")) == "15s"
        with pytest.raises(InternalError, match="read-only"):
            connection.execute(text("create temp table mine (a int)"))


def test_the_command_updates_an_existing_role(base_settings: Settings, reader: Engine) -> None:
    owner = open_database(base_settings)
    with owner.begin() as connection:
        connection.execute(text(f"grant select on jobs, users to {ROLE}"))

    create_reader(base_settings, PASSWORD[::-1])

    new_reader = as_reader(base_settings, PASSWORD[::-1])
    with new_reader.connect() as connection:
        assert connection.scalar(text("select count(id) from users")) == 0
        for closed in ("select request from jobs", "select password_hash from users"):
            with pytest.raises(ProgrammingError, match="permission denied"):
                connection.execute(text(closed))
            connection.rollback()
    reader.dispose()
    with pytest.raises(OperationalError, match="password authentication failed"):
        reader.connect()
    new_reader.dispose()
    owner.dispose()


def test_the_command_reports_its_errors(
    base_settings: Settings,
    reader: Engine,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path_factory.mktemp("password") / "password"
    for name, value in base_settings.to_environment().items():
        monkeypatch.setenv(name, value)
    arguments = ["monitoring", "database-reader", "--password-file", str(file)]

    assert main(arguments) == 1
    assert "cannot read" in capsys.readouterr().err
    file.write_text("short\n")
    assert main(arguments) == 1
    assert "must contain at least 16 characters" in capsys.readouterr().err
    file.write_text(PASSWORD + "\n")
    assert main(arguments) == 0
    url = reader.url.render_as_string(hide_password=False)
    monkeypatch.setenv("DATABASE_URL", url)
    assert main(arguments) == 1
    assert "cannot make the role: " in capsys.readouterr().err
