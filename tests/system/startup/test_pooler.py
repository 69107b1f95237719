"""No program starts behind a transaction pooler, tried with the real PgBouncer."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import make_url

from cli.system.ports import free_port
from core.config.settings import Settings
from tests.support.monitoring.programs import library_path, program
from tests.support.polling import wait_until
from tests.support.processes import CLI, bare_environment, end, run, start

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
#: What the check of the pooler sets, for every connection of the pooler.
WITH_TIMEOUT = "connect_query='set statement_timeout = 3000'"
PROGRAM_SECONDS = 60


@pytest.fixture
def pooler(base_settings: Settings, tmp_path: Path) -> Iterator[Callable[[str, str], str]]:
    """A function that starts PgBouncer in front of the database and returns its URL."""
    url = make_url(base_settings.database_url.get_secret_value())
    binary, started = program("pgbouncer"), []

    def start_pooler(ignored: str, more: str) -> str:
        file, port = tmp_path / "pgbouncer.ini", free_port()
        file.write_text(CONFIGURATION.format(server=url, port=port, ignored=ignored, more=more))
        # It refuses to run as root, and its user must be able to read the file.
        tmp_path.chmod(0o755)
        identity = ["-u", "nobody"] if os.geteuid() == 0 else []
        log = tmp_path / "pgbouncer.log"
        environment = {**bare_environment(), "LD_LIBRARY_PATH": library_path()}
        started.append(start([binary, *identity, str(file)], log=log, environment=environment))
        own = url.set(port=port).render_as_string(hide_password=False)
        wait_until(lambda: accepts_connections(own), 20, log.read_text)
        return own

    yield start_pooler
    for process in started:
        end(process, signal.SIGKILL)


def accepts_connections(url: str) -> bool:
    try:
        with closing(psycopg2.connect(url.replace("+psycopg2", ""), connect_timeout=2)):
            return True
    except psycopg2.OperationalError:
        return False


@pytest.mark.parametrize("name", ["api", "worker", "admin-ui", "migrate", "seed"])
def test_no_program_starts_behind_a_transaction_pooler(
    base_settings: Settings, pooler: Callable[[str, str], str], name: str
) -> None:
    done = run_program(base_settings, name, pooler("extra_float_digits, options", ""))

    assert done.returncode == 1, done
    (message,) = [line for line in done.stderr.splitlines() if line.startswith("bountycoder: ")]
    assert "a transaction pooler such as PgBouncer in transaction mode cannot be used" in message
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("ignored", "more", "lost"),
    [
        ("extra_float_digits", "", "the settings of a session"),
        ("extra_float_digits, options", WITH_TIMEOUT, "prepared statements"),
    ],
)
def test_the_error_names_what_a_pooler_loses(
    base_settings: Settings, pooler: Callable[[str, str], str], ignored: str, more: str, lost: str
) -> None:
    done = run_program(base_settings, "worker", pooler(ignored, more))

    assert done.returncode == 1, done
    assert f"leads to one that loses {lost};" in done.stderr


def run_program(settings: Settings, name: str, url: str) -> subprocess.CompletedProcess[str]:
    environment = {**bare_environment(), **settings.to_environment(), "DATABASE_URL": url}
    return run([*CLI, name], environment=environment, seconds=PROGRAM_SECONDS)
