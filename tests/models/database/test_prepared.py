from __future__ import annotations

from collections.abc import Iterator

import psycopg2
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from core.config.settings import Settings
from models.database.base import open_database
from models.database.prepared import OutcomeUnknown, Statements

PID = "select pg_backend_pid()"


@pytest.fixture
def engine(base_settings: Settings) -> Iterator[Engine]:
    engine = open_database(base_settings, pool_size=3, is_autocommit=True)
    yield engine
    engine.dispose()


def checked_out(engine: Engine) -> int:
    return int(engine.pool.checkedout())  # type: ignore[attr-defined]


def test_a_connection_is_reused_for_the_next_statement(engine: Engine) -> None:
    statements = Statements(engine, max_idle=1)

    pids = {statements.run(PID, {})[0] for _ in range(3)}

    assert len(pids) == checked_out(engine) == 1


def test_no_more_than_max_idle_connections_are_held(engine: Engine) -> None:
    Statements(engine, max_idle=0).run(PID, {})

    assert checked_out(engine) == 0


def test_a_connection_that_ended_while_idle_is_replaced(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.database.prepared.KEEP_SECONDS", 0)
    monkeypatch.setattr("models.database.base.TRUSTED_IDLE_SECONDS", 0)
    statements = Statements(engine, max_idle=1)
    [(pid,)] = statements.run(PID, {})
    with engine.connect() as other:
        other.exec_driver_sql("select pg_terminate_backend(%(pid)s, 5000)", {"pid": pid})

    assert statements.run(PID, {}) != [(pid,)]


def test_a_broken_connection_is_not_reused(engine: Engine) -> None:
    statements = Statements(engine, max_idle=1)
    [(pid,)] = statements.run(PID, {})
    with engine.connect() as other:
        other.exec_driver_sql("select pg_terminate_backend(%(pid)s, 5000)", {"pid": pid})

    with pytest.raises(OutcomeUnknown):
        statements.run(PID, {})

    assert checked_out(engine) == 0
    assert statements.run(PID, {}) != [(pid,)]


def test_a_refused_statement_costs_no_connection(engine: Engine) -> None:
    statements = Statements(engine, max_idle=1)

    with pytest.raises(psycopg2.DatabaseError):
        statements.run("select 1 / 0", {})

    assert checked_out(engine) == 0
    assert statements.run("select 1", {}) == [(1,)]


@pytest.mark.parametrize(
    "refused", ["set statement_timeout = 1; select pg_sleep(5)", "set nonsense = 1"]
)
def test_an_error_of_the_server_is_a_known_outcome(engine: Engine, refused: str) -> None:
    with pytest.raises(psycopg2.DatabaseError) as caught:
        Statements(engine, max_idle=1).run(refused, {})

    assert not isinstance(caught.value, OutcomeUnknown)


def test_a_refused_connection_is_a_known_outcome(base_settings: Settings) -> None:
    url = SecretStr("postgresql+psycopg2://u:p@127.0.0.1:1/none")
    away = open_database(base_settings.model_copy(update={"database_url": url}))

    with pytest.raises(psycopg2.OperationalError) as caught:
        Statements(away, max_idle=1).run("select 1", {})

    assert not isinstance(caught.value, OutcomeUnknown)
