"""`bountycoder backup`: its files, its refusals, and interrupted backups."""

from __future__ import annotations

import json
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from api.runtime.service_metrics import ServiceMetrics
from core.config.settings import Settings
from migrations.run import head_revision
from models.database.base import SessionFactory
from models.jobs.job import JobState
from tests.support.cli.backup_runs import begun, bountycoder, environment, working_tool
from tests.support.factories.rows import add_job, add_key
from tests.support.factories.usage import NOON, add_usage
from tests.support.processes import CLI, run


@pytest.fixture
def settings(base_settings: Settings, database: SessionFactory) -> Settings:
    """Settings of a database with a few jobs."""
    with database.begin() as session:
        key = add_key(session)
        for _ in range(10):
            add_usage(session, key)
        add_job(session, key, state=JobState.CANCELLED, finished_at=NOON)
    return base_settings


@contextmanager
def jobs_locked(settings: Settings) -> Iterator[None]:
    """Lock the table of jobs, so that a dump waits."""
    # Not with the service's own connections: the server ends those that are idle for long.
    engine = create_engine(settings.database_url.get_secret_value())
    with engine.connect() as connection:
        connection.execute(text("lock table jobs in access exclusive mode"))
        yield
    engine.dispose()


def facts(settings: Settings) -> dict[str, float]:
    collector = ServiceMetrics(settings)
    wanted = "bountycoder_backup_last_success_timestamp_seconds"
    return {m.name: m.samples[0].value for m in collector.collect() if m.name == wanted}


def test_a_backup_says_what_it_holds_and_when_it_was_made(
    settings: Settings, tmp_path: Path
) -> None:
    before = facts(settings)

    done = bountycoder(settings, "backup", "--to", str(tmp_path / "backups"))

    assert (done.returncode, done.stderr) == (0, "")
    (backup,) = (tmp_path / "backups").glob("2*")
    manifest = json.loads((backup / "manifest.json").read_text())
    assert manifest["tables"]["usage"] == {
        "rows": 10,
        "tokens": {"prompt_tokens": 100, "completion_tokens": 50, "cached_tokens": 20},
    }
    assert manifest["tables"]["jobs"]["rows"] == 11
    assert manifest["schema_revision"] == head_revision()
    assert manifest["files"]["database.dump"]["bytes"] == (backup / "database.dump").stat().st_size
    assert stat.S_IMODE(backup.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in backup.iterdir()} == {0o600}
    name = "bountycoder_backup_last_success_timestamp_seconds"
    assert before == {name: 0}
    assert f"{facts(settings)[name]:.0f}" == f"{_time_of(manifest['taken_at']):.0f}"


def _time_of(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_only_the_newest_backups_stay(settings: Settings, tmp_path: Path) -> None:
    assert bountycoder(settings, "backup", "--to", str(tmp_path)).returncode == 0
    (first,) = tmp_path.glob("2*")
    for name in ("20250101T000000Z", "20250102T000000Z"):
        shutil.copytree(first, tmp_path / name)
    (tmp_path / "20240101T000000Z").mkdir()  # not a backup: not ours to delete

    done = bountycoder(settings, "backup", "--to", str(tmp_path), "--keep", "2")

    assert done.returncode == 0, done.stderr
    left = sorted(path.name for path in tmp_path.glob("2*"))
    assert len(left) == 3
    assert left[:2] == ["20240101T000000Z", first.name]
    assert not list(tmp_path.glob(".partial-*"))


def test_a_new_backup_stays_although_others_have_later_times(
    settings: Settings, tmp_path: Path
) -> None:
    assert bountycoder(settings, "backup", "--to", str(tmp_path)).returncode == 0
    (first,) = tmp_path.glob("2*")
    for name in ("29990101T000000Z", "29990102T000000Z"):
        shutil.copytree(first, tmp_path / name)
    shutil.rmtree(first)

    done = bountycoder(settings, "backup", "--to", str(tmp_path), "--keep", "2")

    assert done.returncode == 0, done.stderr
    made, of_later = sorted(path.name for path in tmp_path.glob("2*"))
    assert made < "29990101"
    assert of_later == "29990102T000000Z"
    assert done.stdout.startswith(f"{tmp_path / made}: ")
    assert f"{tmp_path / of_later} has a later time" in done.stderr


def test_a_stopped_backup_leaves_nothing_and_its_tool_gets_no_password_as_argument(
    settings: Settings, tmp_path: Path
) -> None:
    password = make_url(settings.database_url.get_secret_value()).password
    assert password

    with jobs_locked(settings), begun(settings, "backup", "--to", str(tmp_path)) as process:
        tool = working_tool(process, "pg_dump")
        assert password not in " ".join(tool.cmdline())
        second = bountycoder(settings, "backup", "--to", str(tmp_path))
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)

    assert "is running" in second.stderr
    assert process.returncode == 130
    assert output == "stopped: nothing is left of this backup\n"
    assert not tool.is_running()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_files_of_a_killed_backup_are_no_backup_and_the_next_deletes_them(
    settings: Settings, tmp_path: Path
) -> None:
    with jobs_locked(settings), begun(settings, "backup", "--to", str(tmp_path)) as process:
        working_tool(process, "pg_dump")
        process.kill()
        process.communicate(timeout=60)
    assert len(list(tmp_path.glob(".partial-*"))) == 1
    refused = bountycoder(settings, "restore", "--from", str(tmp_path))

    done = bountycoder(settings, "backup", "--to", str(tmp_path))

    assert refused.stderr == f"bountycoder: there is no backup in {tmp_path}\n"
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob(".partial-*"))


def test_a_full_disk_is_a_clear_error_and_leaves_no_files(
    settings: Settings, tmp_path: Path
) -> None:
    mount = f"mount -t tmpfs -o size=16k tmpfs {tmp_path}"
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*inside, mount], capture_output=True).returncode != 0:
        pytest.skip("no small disk can be mounted here")

    script = f'{mount} && "$@"; code=$?; ls -A {tmp_path}; exit $code'
    command = [*inside, script, "sh", *CLI, "backup", "--to", str(tmp_path)]
    done = run(command, environment=environment(settings))

    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ".lock\n"


def test_tools_that_are_too_old_are_named(settings: Settings, tmp_path: Path) -> None:
    old = tmp_path / "bin"
    old.mkdir()
    program = old / "pg_dump"
    program.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 14.9'\n")
    program.chmod(0o755)

    done = bountycoder(settings, "backup", "--to", str(tmp_path / "backups"), PG_BIN=str(old))

    assert done.returncode == 1
    assert f"found: 14 in {old}" in done.stderr
    assert "or newer is needed for this PostgreSQL" in done.stderr
