"""The embedded Valkey is private and durable, and ends with its parent."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cli.servers.valkey import Valkey, wheel_binary
from core.errors import LauncherError
from tests.support.processes import all_end, printed_ids, python, with_descendants

PARENT = """
import sys, time
from pathlib import Path
from cli.servers.valkey import Valkey
server = Valkey(Path(sys.argv[1]) / "valkey", log_dir=Path(sys.argv[1]) / "logs")
server.start()
print(server.child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path / "valkey", log_dir=tmp_path / "logs")
    server.start()
    yield server
    server.stop()


def client_of(server: Valkey) -> closing[redis.Redis]:
    return closing(redis.Redis.from_url(server.url, socket_timeout=5))


def test_the_wheel_has_an_executable_binary() -> None:
    assert os.access(wheel_binary(), os.X_OK)


def test_it_requires_its_password(valkey: Valkey) -> None:
    unauthenticated = redis.Redis(port=valkey.port, retry=Retry(NoBackoff(), 0))
    with client_of(valkey) as client, closing(unauthenticated):
        assert client.ping()
        with pytest.raises(redis.AuthenticationError):
            unauthenticated.ping()


def test_its_password_is_in_no_list_of_processes_and_in_a_private_file(valkey: Valkey) -> None:
    assert valkey.child is not None
    password = valkey.url.split("@")[0].removeprefix("redis://:")
    file = valkey.directory.with_name("valkey.password")

    process = psutil.Process(valkey.child.pid)

    assert password not in " ".join([*process.cmdline(), *process.environ().values()])
    assert file.read_text().strip() == password
    assert file.stat().st_mode & 0o777 == 0o600


def test_it_listens_to_this_machine_only(valkey: Valkey) -> None:
    assert valkey.child is not None
    listening = psutil.Process(valkey.child.pid).net_connections("inet")

    assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}


def test_written_data_survives_a_kill(tmp_path: Path, valkey: Valkey) -> None:
    with client_of(valkey) as client:
        client.set("written", "yes")
    assert valkey.child is not None
    os.kill(valkey.child.pid, signal.SIGKILL)
    valkey.child.wait(10)

    second = Valkey(tmp_path / "valkey", log_dir=tmp_path / "logs")
    second.start()

    with client_of(second) as client:
        assert client.get("written") == b"yes"
    second.stop()


def test_no_server_outlives_a_killed_parent(tmp_path: Path) -> None:
    with python(PARENT, tmp_path) as parent:
        servers = with_descendants(printed_ids(parent))

        parent.kill()

        assert all_end(servers)


def test_a_new_server_waits_for_the_one_that_is_still_stopping(tmp_path: Path) -> None:
    with python(PARENT, tmp_path) as parent:
        (pid,) = printed_ids(parent)
        old = psutil.Process(pid)
        old.suspend()
        parent.kill()
        new = Valkey(tmp_path / "valkey", log_dir=tmp_path / "logs")
        ticks = 0

        def tick() -> None:
            nonlocal ticks
            ticks += 1
            if ticks == 3:
                old.resume()

        new.start(tick)
        new.stop()

        assert ticks >= 3
        assert all_end({old})


def test_a_broken_file_is_a_clear_error(tmp_path: Path) -> None:
    broken = tmp_path / "valkey" / "appendonlydir"
    broken.mkdir(parents=True)
    (broken / "appendonly.aof.manifest").write_text("nonsense\n")

    with pytest.raises(LauncherError, match=r"^Valkey does not start on .*/valkey: .+\(log: "):
        Valkey(tmp_path / "valkey", log_dir=tmp_path / "logs").start()
