"""A pooler of transactions, the real PgBouncer, in front of the database: no program runs on it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import make_url

from cli.system.ports import free_port
from core.config.settings import Settings
from tests.support.monitoring.programs import library_path, program
from tests.support.paths import ROOT
from tests.support.polling import wait_until
from tests.support.service import bare_environment

CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server.port} user={server.username} password={server.password} {more}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
ignore_startup_parameters = {ignored}
"""
#: As the proof asks for, on every connection of the pooler's.
WITH_TIMEOUT = "connect_query='set statement_timeout = 3000'"
PROGRAM_SECONDS = 60


@pytest.fixture
def pooler(base_settings: Settings, tmp_path: Path) -> Iterator[Callable[[str, str], str]]:
    """Starts PgBouncer in front of the database and returns its URL."""
    url = make_url(base_settings.database_url.get_secret_value())
    binary, started = program("pgbouncer"), []

    def start(ignored: str, more: str) -> str:
        file, port = tmp_path / "pgbouncer.ini", free_port()
        file.write_text(CONFIGURATION.format(server=url, port=port, ignored=ignored, more=more))
        # It refuses to be root, and reads its file as whoever it becomes.
        tmp_path.chmod(0o755)
        identity = ["-u", "nobody"] if os.geteuid() == 0 else []
        with open(tmp_path / "pgbouncer.log", "wb") as log:
            process = subprocess.Popen(
                [binary, *identity, str(file)],
                env={**bare_environment(), "LD_LIBRARY_PATH": library_path()},
                stdout=log,
                stderr=log,
            )
        started.append(process)
        own = url.set(port=port).render_as_string(hide_password=False)
        wait_until(lambda: answers(own), 20, (tmp_path / "pgbouncer.log").read_text)
        return own

    yield start
    for process in started:
        process.kill()
        process.wait(10)


def answers(url: str) -> bool:
    try:
        with closing(psycopg2.connect(url.replace("+psycopg2", ""), connect_timeout=2)):
            return True
    except psycopg2.OperationalError:
        return False


@pytest.mark.parametrize("name", ["api", "worker", "admin-ui", "migrate", "seed"])
def test_no_program_starts_behind_a_pooler_of_transactions(
    base_settings: Settings, pooler: Callable[[str, str], str], name: str
) -> None:
    done = start(base_settings, name, pooler("extra_float_digits, options", ""))

    assert done.returncode == 1, done
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("bountycoder: ")]
    assert "a transaction pooler such as PgBouncer in transaction mode cannot be used" in said
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("ignored", "more", "lost"),
    [
        ("extra_float_digits", "", "the settings of a session"),
        ("extra_float_digits, options", WITH_TIMEOUT, "prepared statements"),
    ],
)
def test_what_a_pooler_loses_is_said(
    base_settings: Settings, pooler: Callable[[str, str], str], ignored: str, more: str, lost: str
) -> None:
    done = start(base_settings, "worker", pooler(ignored, more))

    assert done.returncode == 1, done
    assert f"leads to one that loses {lost};" in done.stderr


def start(settings: Settings, name: str, url: str) -> subprocess.CompletedProcess[str]:
    environment = {**settings.to_environment(), "DATABASE_URL": url}
    return subprocess.run(
        [sys.executable, "-m", "cli.main", name],
        cwd=ROOT,
        env={**bare_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS,
    )
