"""Every obstacle of `bountycoder up` gives one clear line and exit code 1."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cli.system.file_locks import try_lock
from cli.system.ports import free_port
from core.config.settings import Settings
from tests.support.paths import ROOT

TIMEOUT_SECONDS = 60.0
#: A disk of our own that only this command sees: `$0` is where, `$1` its options.
ON_A_SMALL_DISK = 'mount -t tmpfs -o "$1" tmpfs "$0" && shift && exec "$@"'


@dataclass(slots=True)
class Up:
    """How the command is called in a test."""

    data_dir: Path
    model: Path
    api_port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)

    def fails_with(
        self, *, prefix: tuple[str, ...] = (), environment: Mapping[str, str] | None = None
    ) -> str:
        """Run it and return what it says after `bountycoder: `."""
        command = [*prefix, sys.executable, "-m", "cli.main", "up", "--engine", "echo"]
        command += ["--data-dir", str(self.data_dir), "--model", str(self.model)]
        command += ["--api-port", str(self.api_port), "--admin-port", str(self.admin_port)]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**_bare_environment(), **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
        said = done.stderr.splitlines()
        assert (done.returncode, len(said)) == (1, 1), done
        assert said[0].startswith("bountycoder: ")
        return said[0].removeprefix("bountycoder: ")


@pytest.fixture
def up(tmp_path: Path) -> Up:
    model = tmp_path / "some-model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    return Up(tmp_path / "data", model)


def on_a_disk(place: Path, options: str) -> tuple[str, ...]:
    """Return what runs a command where `place` is a small disk."""
    place.mkdir()
    rights = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-Urm")
    return (*rights, "sh", "-c", ON_A_SMALL_DISK, str(place), options)


@pytest.mark.parametrize("which", ["api", "admin"])
def test_a_port_in_use(up: Up, which: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        setattr(up, f"{which}_port", port)

        said = up.fails_with()

    expected = f"port {port} is in use by another program: choose another with --{which}-port"
    assert said == expected


def test_the_same_port_twice(up: Up) -> None:
    up.admin_port = up.api_port

    assert up.fails_with() == "--api-port and --admin-port must differ"


def test_a_data_directory_that_is_a_file(up: Up) -> None:
    up.data_dir.write_text("")

    assert up.fails_with() == f"data directory {up.data_dir} is not a directory"


def test_a_data_directory_that_cannot_be_made(up: Up) -> None:
    up.data_dir = Path("/proc/bountycoder")

    said = up.fails_with()

    assert said.startswith("data directory /proc/bountycoder cannot be used: ")


def test_a_data_directory_that_cannot_be_written(up: Up) -> None:
    said = up.fails_with(prefix=on_a_disk(up.data_dir, "ro"))

    assert said == f"data directory {up.data_dir} cannot be used: Read-only file system"


def test_a_data_directory_that_another_instance_uses(up: Up) -> None:
    up.data_dir.mkdir()
    lock = try_lock(up.data_dir / "up.lock")
    assert lock is not None

    said = up.fails_with()

    os.close(lock)
    assert said == f"data directory {up.data_dir} is in use by another bountycoder up"


def test_half_a_cluster(up: Up) -> None:
    cluster = up.data_dir / "postgres"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("18\n")

    said = up.fails_with()

    assert said == (
        f"the data directory {cluster} holds no complete PostgreSQL cluster: move it away"
    )


def test_a_cluster_of_another_version(up: Up) -> None:
    broken_cluster(up.data_dir / "postgres", version="11")

    said = up.fails_with()

    assert re.search(r"was made by PostgreSQL 11 and this is PostgreSQL \d\d: move it away", said)


def test_a_broken_cluster(up: Up) -> None:
    broken_cluster(up.data_dir / "postgres", version="18")

    said = up.fails_with()

    assert said.startswith(f"PostgreSQL does not start on {up.data_dir}/postgres: ")


def test_a_broken_queue(up: Up) -> None:
    broken = up.data_dir / "valkey" / "appendonlydir"
    broken.mkdir(parents=True)
    (broken / "appendonly.aof.manifest").write_text("nonsense\n")

    assert up.fails_with().startswith(f"Valkey does not start on {up.data_dir}/valkey: ")


def test_a_disk_with_too_little_room(up: Up) -> None:
    said = up.fails_with(prefix=on_a_disk(up.data_dir, "size=50m"))

    assert re.fullmatch(rf"disk full: {up.data_dir} has \d+ MB free, and 200 MB are needed", said)


@pytest.mark.parametrize("files", [2, 5, 9, 60], ids="{} files fit".format)
def test_a_disk_that_is_full_halfway(up: Up, files: int) -> None:
    said = up.fails_with(prefix=on_a_disk(up.data_dir, f"size=400m,nr_inodes={files}"))

    assert said.startswith("disk full: ")
    assert str(up.data_dir) in said


def test_a_model_that_is_not_there(up: Up) -> None:
    up.model = up.data_dir / "nowhere"

    assert up.fails_with() == f"no model at {up.model}: there is no config.json"


def test_wrong_settings(up: Up) -> None:
    said = up.fails_with(environment={"LOG_LEVEL": "LOUD", "DRAIN_SECONDS": "soon"})

    assert said.startswith("wrong settings: LOG_LEVEL ")
    assert "; DRAIN_SECONDS " in said


@pytest.mark.parametrize("is_in_a_file", [False, True])
def test_a_database_of_ours_that_is_away(up: Up, tmp_path: Path, is_in_a_file: bool) -> None:
    address = f"postgresql+psycopg2://bounty:secret@127.0.0.1:{free_port()}/elsewhere"
    file = tmp_path / "database-url"
    file.write_text(address + "\n")
    given = {"DATABASE_URL_FILE": str(file)} if is_in_a_file else {"DATABASE_URL": address}

    said = up.fails_with(environment=given)

    assert "OperationalError" in said
    assert "secret" not in said


def _bare_environment() -> dict[str, str]:
    """Return our environment without anything that `up` or the settings would take from it."""
    taken = {"PG_BIN", "MODEL_STORE", *(name.upper() for name in Settings.model_fields)}
    return {name: value for name, value in os.environ.items() if name not in taken}


def broken_cluster(directory: Path, *, version: str) -> None:
    (directory / "global").mkdir(parents=True)
    directory.chmod(0o700)
    (directory / "PG_VERSION").write_text(f"{version}\n")
    (directory / "global" / "pg_control").write_bytes(bytes(8192))
    (directory / "postgresql.conf").write_text("")
