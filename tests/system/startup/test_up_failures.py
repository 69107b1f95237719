"""Every failure of `bountycoder up` prints one clear line and returns exit code 1."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cli.system.file_locks import try_lock
from cli.system.ports import free_port
from core.config.settings import Settings
from tests.support.processes import CLI, run

TIMEOUT_SECONDS = 60.0
#: Runs a command with its own mount: `$0` is the directory, `$1` the options of the disk.
ON_A_SMALL_DISK = 'mount -t tmpfs -o "$1" tmpfs "$0" && shift && exec "$@"'


@dataclass(slots=True)
class FailingUp:
    """A call of `bountycoder up` that fails."""

    data_dir: Path
    model: Path
    api_port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)

    def fails_with(
        self, *, prefix: tuple[str, ...] = (), environment: Mapping[str, str] | None = None
    ) -> str:
        """Run it and return its error message after `bountycoder: `."""
        command = [*prefix, *CLI, "up", "--engine", "echo"]
        command += ["--data-dir", str(self.data_dir), "--model", str(self.model)]
        command += ["--api-port", str(self.api_port), "--admin-port", str(self.admin_port)]
        given = {**_own_environment(), **(environment or {})}
        done = run(command, environment=given, seconds=TIMEOUT_SECONDS)
        lines = done.stderr.splitlines()
        assert (done.returncode, len(lines)) == (1, 1), done
        assert lines[0].startswith("bountycoder: ")
        return lines[0].removeprefix("bountycoder: ")


@pytest.fixture
def up(tmp_path: Path) -> FailingUp:
    model = tmp_path / "some-model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    return FailingUp(tmp_path / "data", model)


def on_a_disk(directory: Path, options: str) -> tuple[str, ...]:
    """Return the prefix of a command for which `directory` is a small disk."""
    directory.mkdir()
    rights = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-Urm")
    return (*rights, "sh", "-c", ON_A_SMALL_DISK, str(directory), options)


@pytest.mark.parametrize("which", ["api", "admin"])
def test_a_port_in_use(up: FailingUp, which: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        setattr(up, f"{which}_port", port)

        message = up.fails_with()

    expected = f"port {port} is in use by another program: choose another with --{which}-port"
    assert message == expected


def test_the_same_port_twice(up: FailingUp) -> None:
    up.admin_port = up.api_port

    assert up.fails_with() == "--api-port and --admin-port must differ"


def test_a_data_directory_that_is_a_file(up: FailingUp) -> None:
    up.data_dir.write_text("")

    assert up.fails_with() == f"data directory {up.data_dir} is not a directory"


def test_a_data_directory_that_cannot_be_created(up: FailingUp) -> None:
    up.data_dir = Path("/proc/bountycoder")

    message = up.fails_with()

    assert message.startswith("data directory /proc/bountycoder cannot be used: ")


def test_a_read_only_data_directory(up: FailingUp) -> None:
    message = up.fails_with(prefix=on_a_disk(up.data_dir, "ro"))

    assert message == f"data directory {up.data_dir} cannot be used: Read-only file system"


def test_a_data_directory_that_another_up_uses(up: FailingUp) -> None:
    up.data_dir.mkdir()
    lock = try_lock(up.data_dir / "up.lock")
    assert lock is not None

    message = up.fails_with()

    os.close(lock)
    assert message == f"data directory {up.data_dir} is in use by another bountycoder up"


def test_an_incomplete_cluster(up: FailingUp) -> None:
    cluster = up.data_dir / "postgres"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("18\n")

    message = up.fails_with()

    assert message == (
        f"the data directory {cluster} holds no complete PostgreSQL cluster: move it away"
    )


def test_a_cluster_of_another_version(up: FailingUp) -> None:
    broken_cluster(up.data_dir / "postgres", version="11")

    message = up.fails_with()

    assert re.search(
        r"was made by PostgreSQL 11 and this is PostgreSQL \d\d: move it away", message
    )


def test_a_broken_cluster(up: FailingUp) -> None:
    broken_cluster(up.data_dir / "postgres", version="18")

    message = up.fails_with()

    assert message.startswith(f"PostgreSQL does not start on {up.data_dir}/postgres: ")


def test_a_broken_queue(up: FailingUp) -> None:
    broken = up.data_dir / "valkey" / "appendonlydir"
    broken.mkdir(parents=True)
    (broken / "appendonly.aof.manifest").write_text("nonsense\n")

    assert up.fails_with().startswith(f"Valkey does not start on {up.data_dir}/valkey: ")


def test_a_disk_with_too_little_space(up: FailingUp) -> None:
    message = up.fails_with(prefix=on_a_disk(up.data_dir, "size=50m"))

    assert re.fullmatch(
        rf"disk full: {up.data_dir} has \d+ MB free, and 200 MB are needed", message
    )


@pytest.mark.parametrize("files", [2, 5, 9, 60], ids="{} files fit".format)
def test_a_disk_that_becomes_full(up: FailingUp, files: int) -> None:
    message = up.fails_with(prefix=on_a_disk(up.data_dir, f"size=400m,nr_inodes={files}"))

    assert message.startswith("disk full: ")
    assert str(up.data_dir) in message


def test_a_missing_model(up: FailingUp) -> None:
    up.model = up.data_dir / "nowhere"

    assert up.fails_with() == f"no model at {up.model}: there is no config.json"


def test_wrong_settings(up: FailingUp) -> None:
    message = up.fails_with(environment={"LOG_LEVEL": "LOUD", "DRAIN_SECONDS": "soon"})

    assert message.startswith("wrong settings: LOG_LEVEL ")
    assert "; DRAIN_SECONDS " in message


@pytest.mark.parametrize("is_in_a_file", [False, True])
def test_the_given_database_is_away(up: FailingUp, tmp_path: Path, is_in_a_file: bool) -> None:
    address = f"postgresql+psycopg2://bounty:secret@127.0.0.1:{free_port()}/elsewhere"
    file = tmp_path / "database-url"
    file.write_text(address + "\n")
    given = {"DATABASE_URL_FILE": str(file)} if is_in_a_file else {"DATABASE_URL": address}

    message = up.fails_with(environment=given)

    assert "OperationalError" in message
    assert "secret" not in message


def _own_environment() -> dict[str, str]:
    """Return this process's environment without variables that `up` or the settings read."""
    taken = {"PG_BIN", "MODEL_STORE", *(name.upper() for name in Settings.model_fields)}
    return {name: value for name, value in os.environ.items() if name not in taken}


def broken_cluster(directory: Path, *, version: str) -> None:
    (directory / "global").mkdir(parents=True)
    directory.chmod(0o700)
    (directory / "PG_VERSION").write_text(f"{version}\n")
    (directory / "global" / "pg_control").write_bytes(bytes(8192))
    (directory / "postgresql.conf").write_text("")
