"""What docs/data.md says of replicas and of recovery to a moment, done with real servers."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg2
import pytest
import requests
from sqlalchemy import make_url

from cli.embedded.kept import write_private
from cli.embedded.postgres import SERVER_SETTINGS, Postgres
from cli.embedded.valkey import Valkey
from core.settings import EMBEDDED_DATABASE, Settings
from migrations.run import upgrade
from tests.service import Service, wait_until

BODY = {"prompt": "one two three", "maxTokens": 4}


@contextmanager
def running(directory: Path, name: str, **settings: str) -> Iterator[Postgres]:
    """Run a server on its directory, which is made if it is not there."""
    server = Postgres(directory / name, log_dir=directory / "logs", is_durable=False)
    with pytest.MonkeyPatch.context() as patch:
        for key, value in settings.items():
            patch.setitem(SERVER_SETTINGS, key, value)
        server.prepare()
        server.spawn()
    try:
        wait_until(lambda: answers(server), 60, lambda: log_of(server))
        yield server
    finally:
        server.stop()


def log_of(server: Postgres) -> str:
    return server.child.log_tail() if server.child else ""


def answers(server: Postgres) -> bool:
    try:
        query(server, "select 1", database="postgres")
    except psycopg2.OperationalError:
        return False
    return True


def query(server: Postgres, statement: str, *, database: str = EMBEDDED_DATABASE) -> Any:
    """Run a statement and return the first value of its answer, if it has one."""
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
    """Copy a running server's cluster, as docs/data.md says, for a `Postgres` of that directory."""
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


def served(service: Service, method: str, path: str, **options: Any) -> Any:
    """Ask until the service answers, as clients do: each connection finds the new primary anew."""
    answers: list[requests.Response] = []

    def is_served() -> bool:
        answers.append(service.call(method, path, **options))
        assert answers[-1].status_code in {200, 503}, answers[-1].text
        return answers[-1].status_code == 200

    wait_until(is_served, 60, service.logs)
    return answers[-1].json()


def test_a_service_goes_on_with_the_promoted_replica_when_its_primary_dies(
    base_settings: Settings, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    valkey = Valkey(tmp_path / "valkey", log_dir=tmp_path)
    request.addfinalizer(valkey.stop)
    valkey.start()
    with running(tmp_path, "primary") as primary:
        primary.create_database()
        upgrade(primary.url)
        options = ("--write-recovery-conf", "--create-slot", "--slot=replica")
        base_backup(primary, tmp_path / "replica", *options)
        with running(tmp_path, "replica") as replica:
            urls = [make_url(server.url) for server in (primary, replica)]
            hosts = [("host", f"{url.host}:{url.port}") for url in urls]
            both = f"postgresql://{urls[0].username}:{urls[0].password}@/{EMBEDDED_DATABASE}?" + (
                urlencode([*hosts, ("target_session_attrs", "read-write")])
            )
            own = {"DATABASE_URL": both, "REDIS_URL": valkey.url}
            settings = Settings.from_environment({**base_settings.to_environment(), **own})
            with Service.started(settings, tmp_path) as service:
                headers = {"x-api-key": service.make_key()["secret"]}
                first = service.call("POST", "/api/llm/generate", json=BODY, headers=headers)
                assert first.status_code == 200, first.text
                rows = "select count(*) from jobs where state = 'succeeded'"
                wait_until(lambda: query(replica, rows) == 1, 30)
                assert query(replica, "select pg_is_in_recovery()")

                assert primary.child is not None
                primary.child.kill()
                away = service.call("POST", "/api/llm/generate", json=BODY, headers=headers)
                assert query(replica, "select pg_promote(true, 60)")
                second = served(service, "POST", "/api/llm/generate", json=BODY, headers=headers)
                listed = served(service, "GET", "/api/llm/jobs", headers=headers)["data"]

            assert away.status_code == 503
            assert [job["id"] for job in listed] == [second["id"], first.json()["id"]]
            assert query(replica, rows) == 2


def test_a_database_is_brought_back_to_the_moment_before_a_mistake(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    archiving = {
        "archive_mode": "on",
        "archive_command": f'test ! -f "{archive}/%f" && cp "%p" "{archive}/%f"',
    }
    with running(tmp_path, "primary", **archiving) as primary:
        primary.create_database()
        query(primary, "create table kept (id integer)")
        base_backup(primary, tmp_path / "recovered", "--wal-method=fetch")
        query(primary, "insert into kept select generate_series(1, 1000)")
        moment = query(primary, "select now()::text")
        query(primary, "delete from kept")
        segment = query(primary, "select pg_walfile_name(pg_switch_wal())")
        wait_until(lambda: (archive / segment).exists(), 60)

    (tmp_path / "recovered" / "recovery.signal").touch()
    recovery = {
        "restore_command": f'cp "{archive}/%f" "%p"',
        "recovery_target_time": moment,
        "recovery_target_action": "promote",
    }
    with running(tmp_path, "recovered", **recovery) as recovered:
        wait_until(lambda: not query(recovered, "select pg_is_in_recovery()"), 60)
        assert query(recovered, "select count(*) from kept") == 1000
        query(recovered, "insert into kept values (0)")
