"""Clients notice a broken upload or download, and it leaves no rows behind."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from sqlalchemy import text

from cli.servers.postgres import Postgres
from core.config.settings import Settings
from models.batches.batch import Batch
from models.database.base import SessionFactory
from models.jobs.job import Job
from tests.support.http.batch_files import JSONL, PATH, jobs_of, jsonl, made, requests_of, succeed
from tests.support.polling import wait_until
from tests.support.service import Service

#: More bytes than the buffers of the sockets hold.
LINES, RESPONSE_BYTES = 24, 1_000_000


@pytest.fixture
def service(
    base_settings: Settings, _redis: redis.Redis, postgres: Postgres, tmp_path: Path
) -> Iterator[Service]:
    environment = {**base_settings.to_environment(), "DATABASE_URL": postgres.url}
    settings = Settings.from_environment(environment)
    with Service.started(
        settings, tmp_path / "logs", workers=0, api_processes=1, upload_stall_seconds=1
    ) as running:
        yield running


@pytest.fixture
def headers(service: Service) -> dict[str, str]:
    return {"x-api-key": service.make_key()["secret"]}


@pytest.fixture
def rows(service: Service) -> Iterator[SessionFactory]:
    yield service.sessions


def test_a_download_whose_results_become_unreadable_breaks_its_connection(
    service: Service, headers: dict[str, str], rows: SessionFactory, postgres: Postgres
) -> None:
    batch = made(service, headers, *requests_of(LINES))
    jobs = jobs_of(rows, batch)
    for start in range(0, LINES, 4):
        succeed(rows, jobs[start : start + 4], os.urandom(RESPONSE_BYTES // 2).hex())
    path = f"{PATH}/{batch['id']}/results"
    modern, old = (Reader(service, headers, path, version) for version in ("1.1", "1.0"))
    for reader in (modern, old):
        reader.read_some()
    wait_until(lambda: connections_at_work(rows) == 0, 10)  # slow readers hold none

    postgres.stop()
    for reader in (modern, old):
        reader.read_rest()

    assert modern.head.startswith(b"HTTP/1.1 200") and b"chunked" in modern.head
    assert not modern.data.endswith(b"0\r\n\r\n"), "the mark of the end must be missing"
    assert old.head.startswith(b"HTTP/1.") and b"chunked" not in old.head
    assert old.was_reset, "a client that sees only the end of the connection must see a reset"
    for reader in (modern, old):
        assert len(reader.data) < LINES * RESPONSE_BYTES


def test_an_upload_that_breaks_leaves_nothing(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    file = jsonl(*requests_of(100))
    whole = {"Content-Length": str(len(file) + 1)}
    chunked = {"Transfer-Encoding": "chunked"}

    # The first client disconnects during the upload, the second stops sending.
    for form, body in ((whole, file), (chunked, b"%x\r\n%b\r\n" % (len(file), file))):
        for hangs_up in (True, False):
            with post(service, {**headers, **JSONL, **form}, body) as connection:
                if hangs_up:
                    connection.shutdown(socket.SHUT_WR)
                response = connection.recv(65536)
            assert response.startswith(b"HTTP/1.1 400" if hangs_up else b"HTTP/1.1 408"), response

    assert counts(rows) == (0, 0)


def test_an_upload_whose_client_disconnects_during_validation_leaves_nothing(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    file = jsonl(*[{"prompt": "word " * 800, "maxTokens": 1}] * 4000)
    length = {"Content-Length": str(len(file))}

    with post(service, {**headers, **JSONL, **length}, file):
        pass  # the client sends everything and does not wait for the response

    wait_until(lambda: '"status": 499' in service.logs(), 30, service.logs)  # the request is over
    assert counts(rows) == (0, 0)


def test_an_upload_whose_api_process_is_killed_leaves_nothing(
    service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    file = jsonl(*requests_of(30_000))
    with post(service, {**headers, **JSONL, "Content-Length": str(len(file))}, file):
        wait_until(lambda: writes(rows), 30)
        assert service.api is not None
        for process in psutil.Process(service.api.pid).children():
            process.kill()

    wait_until(lambda: not writes(rows), 10)
    assert counts(rows) == (0, 0)


class Reader:
    """A client that reads the results of a batch from a raw socket."""

    def __init__(self, service: Service, headers: dict[str, str], path: str, version: str) -> None:
        self._connection = socket.create_connection(("127.0.0.1", service.settings.api_port), 30)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._connection.sendall(f"GET {path} HTTP/{version}\r\nHost: x\r\n{lines}\r\n".encode())
        self.head = b""
        self.data = b""
        self.was_reset = False

    def read_some(self) -> None:
        got = b""
        while len(got) < 100_000:
            got += self._connection.recv(65536)
        self.head, _, self.data = got.partition(b"\r\n\r\n")

    def read_rest(self) -> None:
        try:
            while got := self._connection.recv(65536):
                self.data += got
        except ConnectionResetError:
            self.was_reset = True
        self._connection.close()


def post(service: Service, headers: dict[str, str], body: bytes) -> socket.socket:
    """Send a request over a raw socket, and return the socket."""
    connection = socket.create_connection(("127.0.0.1", service.settings.api_port), 30)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    connection.sendall(f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode() + body)
    return connection


def counts(rows: SessionFactory) -> tuple[int, int]:
    with rows() as session:
        return session.query(Batch).count(), session.query(Job).count()


def connections_at_work(rows: SessionFactory) -> int:
    """Return how many other connections run a statement or hold a transaction."""
    return ask(
        rows,
        "select count(*) from pg_stat_activity where state <> 'idle' and pid <> pg_backend_pid()"
        " and backend_type = 'client backend'",
    )


def writes(rows: SessionFactory) -> bool:
    """Return whether an open transaction has written to the table of jobs."""
    locks = "select count(*) from pg_locks where relation = 'jobs'::regclass"
    return ask(rows, f"{locks} and mode = 'RowExclusiveLock'") > 0


def ask(rows: SessionFactory, sql: str) -> Any:
    with rows() as session:
        return session.scalar(text(sql))
