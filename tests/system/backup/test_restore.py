"""`bountycoder restore`: it restores a destroyed database and rejects damaged backups."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, create_engine, make_url, text

from cli.backup.postgres_tools import PostgresTools
from cli.servers.postgres import Postgres
from cli.servers.valkey import Valkey
from core.config.settings import Settings
from migrations.run import upgrade
from models.database.base import sessions
from models.maintenance.backup import backup_connection, count_tables
from tests.support.cli.backup_runs import begun, bountycoder, working_tool
from tests.support.factories.rows import add_key
from tests.support.factories.usage import add_usage
from tests.support.polling import wait_until
from tests.support.service import Service

BODY = {"prompt": "one two three", "maxTokens": 4}


@pytest.fixture(scope="module")
def usage_of_ten_jobs(base_settings: Settings, _database: Engine) -> None:
    with sessions(_database).begin() as session:
        key = add_key(session)
        for _ in range(10):
            add_usage(session, key)


@pytest.fixture(scope="module")
def made_backup(
    usage_of_ten_jobs: None, base_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The one backup of this module; tests use their own copies."""
    directory = tmp_path_factory.mktemp("backups")
    done = bountycoder(base_settings, "backup", "--to", str(directory))
    assert done.returncode == 0, done.stderr
    (made,) = directory.glob("2*")
    return made


@pytest.fixture
def backup(made_backup: Path, tmp_path: Path) -> Path:
    """A backup of a database with the usage of ten jobs."""
    return Path(shutil.copytree(made_backup, tmp_path / "backups" / made_backup.name))


@pytest.fixture
def target(base_settings: Settings, empty_database_url: str) -> Settings:
    """Settings of another database, which is empty."""
    return base_settings.model_copy(update={"database_url": SecretStr(empty_database_url)})


def counts(settings: Settings) -> Any:
    with backup_connection(settings.database_url.get_secret_value(), purpose="test") as connection:
        return count_tables(connection)


def execute(url: str, statement: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


def test_a_destroyed_database_is_restored_from_a_backup_under_traffic(
    servers: tuple[Postgres, Valkey],
    base_settings: Settings,
    migrated_database_url: str,
    tmp_path: Path,
) -> None:
    valkey = Valkey(tmp_path / "valkey", log_dir=tmp_path)
    valkey.start()
    own = {"DATABASE_URL": migrated_database_url, "REDIS_URL": valkey.url}
    settings = Settings.from_environment({**base_settings.to_environment(), **own})
    stop = threading.Event()
    made: list[str] = []
    with Service.started(settings, tmp_path) as service:
        headers = {"x-api-key": service.make_key()["secret"]}

        def call() -> None:
            while not stop.is_set():
                response = service.call("POST", "/api/llm/generate", json=BODY, headers=headers)
                made.append(response.json()["id"])

        caller = threading.Thread(target=call)
        caller.start()
        wait_until(lambda: len(made) >= 20, 60)
        before = set(made)
        done = bountycoder(settings, "backup", "--to", str(tmp_path / "backups"))
        during = len(made) - len(before)
        stop.set()
        caller.join(60)
    assert done.returncode == 0, done.stderr
    assert during > 0
    name = make_url(migrated_database_url).database
    execute(servers[0].url, f"drop database {name} with (force)")
    execute(servers[0].url, f"create database {name}")

    restored = bountycoder(settings, "restore", "--from", str(tmp_path / "backups"))

    assert restored.returncode == 0, restored.stdout + restored.stderr
    assert "jobs, usage, roll-ups and batches agree" in restored.stdout
    (backup,) = (tmp_path / "backups").glob("2*")
    manifest = json.loads((backup / "manifest.json").read_text())
    found = counts(settings)
    assert {n: c.rows for n, c in found.items()} == {
        n: c["rows"] for n, c in manifest["tables"].items()
    }
    assert found["usage"].tokens == manifest["tables"]["usage"]["tokens"]
    with Service.started(settings, tmp_path) as service:
        listed = service.call("GET", "/api/llm/jobs?limit=100", headers=headers).json()["data"]
        response = service.call("POST", "/api/llm/generate", json=BODY, headers=headers)
    assert before <= {job["id"] for job in listed} or len(listed) == 100
    assert response.status_code == 200
    valkey.stop()


def test_rows_are_deleted_only_by_replace(backup: Path, target: Settings) -> None:
    url = target.database_url.get_secret_value()
    upgrade(url)
    execute(url, "insert into usage_closing values (1, now())")
    before = counts(target)

    refused = bountycoder(target, "restore", "--from", str(backup))
    untouched = counts(target)
    done = bountycoder(target, "restore", "--from", str(backup), "--replace")

    assert refused.returncode == 1
    assert "has rows (in usage_closing): --replace" in refused.stderr
    assert untouched == before
    assert done.returncode == 0, done.stdout + done.stderr
    assert counts(target)["usage"].rows == 10
    assert counts(target)["usage_closing"].rows == 0


def test_another_database_is_named_without_a_password(
    backup: Path, base_settings: Settings, target: Settings
) -> None:
    url = make_url(target.database_url.get_secret_value())
    whole = url.render_as_string(hide_password=False)
    bare = url._replace(password=None).render_as_string()

    refused = bountycoder(base_settings, "restore", "--from", str(backup), "--into", whole)
    done = bountycoder(base_settings, "restore", "--from", str(backup), "--into", bare)

    assert refused.returncode == 1
    assert "a password on the command line" in refused.stderr
    assert whole not in refused.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert counts(target)["usage"].rows == 10


def test_a_running_service_is_not_replaced(
    backup: Path, base_settings: Settings, _database: Engine
) -> None:
    with sessions(_database)() as session:
        session.execute(text("select 1"))
        session.rollback()  # its connection stays open, as those of an idle service
        done = bountycoder(base_settings, "restore", "--from", str(backup), "--replace")

    assert done.returncode == 1
    assert "the service is running on this database" in done.stderr


def test_a_backup_is_verified_in_a_scratch_database(backup: Path, base_settings: Settings) -> None:
    before = counts(base_settings)

    done = bountycoder(base_settings, "backup", "verify", str(backup))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "DIFFERENT" not in done.stdout
    assert counts(base_settings) == before
    engine = create_engine(base_settings.database_url.get_secret_value())
    with engine.connect() as connection:
        left = connection.scalar(
            text("select count(*) from pg_database where datname like '%verify%'")
        )
    engine.dispose()
    assert left == 0


def test_a_difference_from_the_manifest_is_reported(backup: Path, target: Settings) -> None:
    change_manifest(backup, lambda m: m["tables"]["usage"]["tokens"].update(prompt_tokens=99))

    done = bountycoder(target, "restore", "--from", str(backup))

    assert done.returncode == 1
    assert any("usage " in line and "DIFFERENT" in line for line in done.stdout.splitlines())
    assert "1 tables differ from the backup" in done.stdout


@pytest.mark.parametrize(
    "fault", ["changed", "cut", "gone", "manifest", "schema", "format", "server"]
)
def test_a_backup_that_cannot_be_trusted_is_refused(
    fault: str, backup: Path, target: Settings
) -> None:
    dump = backup / "database.dump"
    data = dump.read_bytes()
    middle = len(data) // 2
    if fault == "changed":
        dump.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    elif fault == "cut":
        dump.write_bytes(data[:middle])
    elif fault == "gone":
        dump.unlink()
    elif fault == "manifest":
        (backup / "manifest.json").write_text('{"format": 1, "taken')
    elif fault == "schema":
        change_manifest(backup, lambda m: m.update(schema_revision="9999"))
    elif fault == "format":
        change_manifest(backup, lambda m: m.update(format=2))
    else:
        change_manifest(backup, lambda m: m.update(server_version=99))

    done = bountycoder(target, "restore", "--from", str(backup))

    assert done.returncode == 1
    assert _WHY[fault] in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert counts(target) == {}


_WHY = {
    "changed": "its SHA-256 differs",
    "cut": "is damaged: ",
    "gone": "No such file or directory",
    "manifest": "manifest.json is damaged",
    "schema": "newer than ours",
    "format": "a newer version made it",
    "server": "was taken from PostgreSQL 99 and this is PostgreSQL",
}


def change_manifest(backup: Path, change: Any) -> None:
    path = backup / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_a_stopped_restore_changes_nothing(backup: Path, target: Settings) -> None:
    url = target.database_url.get_secret_value()
    upgrade(url)
    execute(url, "insert into usage_closing values (1, now())")
    before = counts(target)
    engine = create_engine(url)
    with engine.connect() as other:
        other.execute(text("lock table usage_closing in access share mode"))

        with begun(target, "restore", "--from", str(backup), "--replace") as process:
            working_tool(process, "pg_restore")
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=60)
    engine.dispose()

    assert process.returncode == 130
    assert output.splitlines()[-1] == "stopped: the database is as it was"
    assert counts(target) == before


def test_tools_are_chosen_by_their_version(tmp_path: Path) -> None:
    new, old = PostgresTools(tmp_path, 18), PostgresTools(tmp_path, 16)

    assert new.may_dump(18)
    assert new.may_dump(15)
    assert not old.may_dump(18)
    assert new.may_restore(18, written_by=16)
    assert not new.may_restore(16, written_by=16)  # it sets `transaction_timeout`
    assert old.may_restore(18, written_by=15)
    assert not old.may_restore(18, written_by=18)
