"""A call of the webhook client is bounded in time and bytes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import pytest

from tests.support.worker.webhook_calls import (
    NAME,
    TIMEOUT_SECONDS,
    loopback_settings,
    post,
    raw_server,
    send_slowly,
)


def send_then_send_slowly(connection: socket.socket, text: bytes) -> None:
    connection.sendall(text)
    send_slowly(connection, b"x-b: ")


def send_nothing(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


@pytest.mark.alone
@pytest.mark.parametrize(
    "talk",
    [
        send_nothing,
        lambda connection: send_slowly(connection, b"HTTP/1.1 200 OK\r\nx-a: "),
        lambda connection: send_then_send_slowly(connection, b"HTTP/1.1 200 OK\r\nx-a: b\r\n"),
        lambda connection: send_slowly(connection, b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    ],
    ids=["silent", "slow header", "endless head", "endless 100 Continue"],
)
def test_a_call_ends_at_its_deadline(talk: Callable[[socket.socket], None]) -> None:
    with raw_server(talk) as port:
        began_at = time.monotonic()
        result = post(f"http://127.0.0.1:{port}/", loopback_settings(TIMEOUT_SECONDS))

        assert TIMEOUT_SECONDS <= time.monotonic() - began_at < 2 * TIMEOUT_SECONDS
    assert (result.status, result.error) == (None, "no response within 1 s")
    assert result.duration_ms >= 1000 * TIMEOUT_SECONDS


@pytest.mark.alone
def test_the_deadline_covers_the_resolution_of_the_name() -> None:
    is_resolved = threading.Event()

    def resolve(host: str, port: int) -> list[str]:
        is_resolved.wait(10 * TIMEOUT_SECONDS)
        return []

    began_at = time.monotonic()
    result = post(f"http://{NAME}/", loopback_settings(TIMEOUT_SECONDS), resolve=resolve)
    is_resolved.set()

    assert time.monotonic() - began_at < 2 * TIMEOUT_SECONDS
    assert result.error == "no response within 1 s"


def test_an_endless_response_is_not_read_to_its_end() -> None:
    def respond_endlessly(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            connection.sendall(bytes(65536))
            sent_bytes.append(65536)

    sent_bytes: list[int] = []
    with raw_server(respond_endlessly) as port:
        result = post(f"http://127.0.0.1:{port}/")

    assert result.is_delivered
    assert sum(sent_bytes) < 50_000_000
