"""The webhook client sends one message, and reports the response or the error."""

from __future__ import annotations

import socket

import pytest

from tests.support.webhook_receiver import receiving
from tests.support.worker.webhook_calls import BODY, NAME, post, raw_server, resolve_to


def test_a_message_arrives_unchanged() -> None:
    with receiving() as receiver:
        result = post(f"{receiver.url}?a=b")

    assert result.is_delivered
    assert result.error is None
    (received,) = receiver.received
    assert (received.path, received.body) == ("/hook?a=b", BODY)
    assert received.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["x-a"] == "b"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with (
        receiving() as internal,
        receiving(lambda number: (status, {"Location": internal.url})) as receiver,
    ):
        result = post(receiver.url)

    assert not result.is_delivered
    assert (result.status, result.error) == (status, "redirects are not followed")
    assert len(receiver.received) == 1
    assert internal.connections == 0


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as proxy, receiving() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")

        assert post(receiver.url).is_delivered
    assert proxy.connections == 0


@pytest.mark.parametrize(("status", "is_delivered"), [(200, True), (204, True), (500, False)])
def test_only_2xx_is_delivered(status: int, is_delivered: bool) -> None:
    with receiving(lambda number: (status, {})) as receiver:
        result = post(receiver.url)

    assert (result.status, result.is_delivered) == (status, is_delivered)
    assert result.error == (None if is_delivered else "responded with 500")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("Fri, 01 Jan 2016 00:00:00 GMT", 0),
        ("99999999999", 99999999999),
        ("soon", None),
        ("-5", None),
        ("²", None),
    ],
)
def test_retry_after_is_read(header: str, seconds: float | None) -> None:
    with receiving(lambda number: (503, {"Retry-After": header})) as receiver:
        result = post(receiver.url)

    assert result.retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (b"", "the connection broke"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the response is not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n", "the response is not HTTP"),
        (b"HTTP/1.1 200 OK\r\n", "the connection broke"),
        (b"HTTP/1.1 200 OK\r\na: b\r\n", "the connection broke"),
        (b"HTTP/1.1 204 No Content\r\nContent-Le", "the connection broke"),
    ],
)
def test_errors_distinguish_broken_connections_from_other_protocols(
    response: bytes, error: str
) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(response)

    with raw_server(talk) as port:
        result = post(f"http://127.0.0.1:{port}/")

    assert (result.status, result.error) == (None, error)


def test_errors_for_a_closed_port_and_an_unknown_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    assert post(f"http://127.0.0.1:{port}/").error == "no connection"
    assert post(f"http://{NAME}/", resolve=resolve).error == "the name has no public address"
    assert post(f"http://{NAME}/", resolve=resolve_to()).error == "the name has no public address"
