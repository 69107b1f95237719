"""The embedded PostgreSQL is private and durable, for root too, and ends with its parent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest

from cli.servers import postgres_cluster
from cli.servers.postgres import Postgres
from cli.system.privileges import Privilege, as_nobody, as_ourselves
from core.config.settings import EMBEDDED_DATABASE
from core.errors import LauncherError
from tests.support.processes import all_end, printed_ids, python, with_descendants

PARENT = """
import sys, time
from pathlib import Path
from cli.servers.postgres import Postgres
server = Postgres(Path(sys.argv[1]) / "postgres", log_dir=Path(sys.argv[1]) / "logs",
                  is_durable=False)
server.start()
print(server.child.pid, flush=True)
time.sleep(60)
"""


def server_in(folder: Path, privilege: Privilege | None = None) -> Postgres:
    return Postgres(
        folder / "postgres", log_dir=folder / "logs", privilege=privilege, is_durable=False
    )


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = server_in(tmp_path_factory.mktemp("postgres"))
    server.start()
    yield server
    server.stop()


def query(server: Postgres, statement: str, *, password: str | None = None) -> str:
    """Return the first value of the result."""
    address = server.url.replace("+psycopg2", "")
    if password is not None:
        address = address.replace(server.cluster.password, password)
    with closing(psycopg2.connect(address, connect_timeout=10)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return str(row[0]) if row else ""


def test_its_database_is_utf8(postgres: Postgres) -> None:
    assert query(postgres, "SELECT current_database()") == EMBEDDED_DATABASE
    assert query(postgres, "SHOW server_encoding") == "UTF8"


def test_it_requires_its_password(postgres: Postgres) -> None:
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        query(postgres, "SELECT 1", password="guess")


def test_only_its_owner_can_read_the_password(postgres: Postgres) -> None:
    file = postgres.cluster.directory.with_name("postgres.password")

    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text().strip() == postgres.cluster.password


def test_it_listens_to_this_machine_only_and_on_no_unix_socket(postgres: Postgres) -> None:
    assert postgres.child is not None
    process = psutil.Process(postgres.child.pid)

    listening = process.net_connections("all")

    assert {(c.laddr.ip, c.laddr.port) for c in listening if c.status == "LISTEN"} == {
        ("127.0.0.1", postgres.port)
    }
    assert not any(isinstance(c.laddr, str) and c.laddr for c in listening)


def test_no_server_outlives_a_killed_parent(tmp_path: Path) -> None:
    with python(PARENT, tmp_path) as parent:
        servers = with_descendants(printed_ids(parent))

        parent.kill()

        assert len(servers) > 1
        assert all_end(servers)


def test_a_start_right_after_a_kill_works_and_rows_survive_a_stop(tmp_path: Path) -> None:
    with python(PARENT, tmp_path) as parent:
        printed_ids(parent)
        parent.kill()
    server = server_in(tmp_path)

    server.start()
    query(server, "CREATE TABLE numbers AS SELECT 42 AS number")
    server.stop()
    second = server_in(tmp_path)
    second.start()

    assert query(second, "SELECT number FROM numbers") == "42"
    second.stop()


def test_a_stale_process_id_does_not_prevent_a_start(tmp_path: Path) -> None:
    server = server_in(tmp_path)
    server.prepare()
    # A zombie or a restart of the machine leaves it: another program has that id now.
    (server.cluster.directory / "postmaster.pid").write_text(f"{os.getpid()}\n")

    server.start()

    assert query(server, "SELECT 1") == "1"
    server.stop()


def test_an_interrupted_initdb_is_repeated(tmp_path: Path) -> None:
    half = tmp_path / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    server = server_in(tmp_path)

    server.start()

    assert query(server, "SELECT 1") == "1"
    server.stop()
    assert not half.exists()


def test_root_can_change_the_way_to_drop_its_privileges(tmp_path: Path) -> None:
    other_way = as_nobody() if os.geteuid() == 0 else as_ourselves()
    for privilege in (other_way, None, other_way):
        server = server_in(tmp_path, privilege)
        server.start()

        owner = server.cluster.directory.stat().st_uid
        assert owner == server.cluster.privilege.owner[0]
        assert query(server, "SELECT 1") == "1"
        server.stop()


def test_a_server_of_the_user_nobody_ends_with_its_parent(tmp_path: Path) -> None:
    way = "as_nobody()" if os.geteuid() == 0 else "None"
    code = "from cli.system.privileges import as_nobody\n" + PARENT.replace(
        "is_durable=False", f"is_durable=False, privilege={way}"
    )
    with python(code, tmp_path) as parent:
        servers = with_descendants(printed_ids(parent))

        parent.kill()

        assert all_end(servers)


def test_a_forbidden_way_to_drop_privileges_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid() -> None:
        raise PermissionError("unshare")

    possible = as_nobody() if os.geteuid() == 0 else as_ourselves()
    ways = [Privilege(forbid, possible.owner), possible]
    monkeypatch.setattr(postgres_cluster, "_possible_privileges", lambda: ways)
    server = server_in(tmp_path)

    server.prepare()

    assert server.cluster.privilege is possible


def test_a_machine_without_any_way_to_run_it_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_cluster, "_possible_privileges", lambda: [])

    with pytest.raises(LauncherError, match="use an ordinary user, or set DATABASE_URL"):
        server_in(tmp_path).start()


def test_a_lost_password_is_a_clear_error(tmp_path: Path) -> None:
    server = server_in(tmp_path)
    server.prepare()
    (tmp_path / "postgres.password").unlink()
    other = server_in(tmp_path)

    with pytest.raises(LauncherError, match="password authentication failed"):
        other.start()

    other.stop()


def test_missing_binaries_are_a_clear_error(tmp_path: Path) -> None:
    server = Postgres(tmp_path / "postgres", log_dir=tmp_path, bin_dir=tmp_path / "nowhere")

    with pytest.raises(LauncherError, match=r"cannot run .*/nowhere/postgres: No such file"):
        server.start()
