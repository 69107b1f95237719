"""PostgreSQL servers that a test starts, stops and copies to replicas."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg2
import pytest
from sqlalchemy import make_url

from cli.servers.postgres import SERVER_SETTINGS, Postgres
from cli.system.private_files import write_private
from core.config.settings import EMBEDDED_DATABASE
from tests.support.polling import wait_until

#: Further options of `pg_basebackup` for a replica that streams.
REPLICA = ("--write-recovery-conf", "--create-slot", "--slot=replica")


@contextmanager
def running(
    directory: Path, name: str, *, port: int | None = None, **settings: str
) -> Iterator[Postgres]:
    """Run a server on `directory / name`, which is created if needed, and on a free port."""
    server = Postgres(directory / name, log_dir=directory / "logs", is_durable=False)
    server.port = port or server.port
    with pytest.MonkeyPatch.context() as patch:
        for key, value in settings.items():
            patch.setitem(SERVER_SETTINGS, key, value)
        server.prepare()
        server.spawn()
    try:
        wait_until(lambda: responds(server), 60, lambda: log_of(server))
        yield server
    finally:
        server.stop()


def log_of(server: Postgres) -> str:
    return server.child.log_tail() if server.child else ""


def responds(server: Postgres) -> bool:
    try:
        query(server, "select 1", database="postgres")
    except psycopg2.OperationalError:
        return False
    return True


def query(server: Postgres, statement: str, *, database: str = EMBEDDED_DATABASE) -> Any:
    """Run a statement and return the first value of its result, if it has one."""
    url = make_url(server.url)
    with closing(
        psycopg2.connect(
            host=url.host,
            port=url.port,
            user=url.username,
            password=url.password,
            dbname=database,
            connect_timeout=5,
        )
    ) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()[0] if cursor.description else None


def base_backup(server: Postgres, to: Path, *options: str) -> None:
    """Copy a running server's cluster to `to`, as `docs/data.md` describes.

    A `Postgres` of that directory can then be started.
    """
    url = make_url(server.url)
    subprocess.run(
        [
            str(server.cluster.bin_dir / "pg_basebackup"),
            f"--pgdata={to}",
            f"--host={url.host}",
            f"--port={url.port}",
            f"--username={url.username}",
            "--no-password",
            "--checkpoint=fast",
            "--no-sync",
            *options,
        ],
        env={"PGPASSWORD": str(url.password), "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
        timeout=120,
    )
    write_private(to.with_name(f"{to.name}.password"), f"{url.password}\n")


def url_of_writable(*servers: Postgres) -> str:
    """Return the URL of our database on the one of the servers that accepts writes."""
    url = make_url(servers[0].url)
    hosts = [("host", f"127.0.0.1:{server.port}") for server in servers]
    options = urlencode([*hosts, ("target_session_attrs", "read-write")])
    return f"postgresql://{url.username}:{url.password}@/{EMBEDDED_DATABASE}?{options}"
