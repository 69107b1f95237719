"""The webhook client: one bounded call to a checked address, and the error of a failed one."""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import trustme

from core.config.settings import Settings
from tests.support.factories.settings import made_settings
from tests.support.webhook_receiver import Receiver, receiving
from worker.webhooks.client import CallResult, WebhookClient

BODY = b'{"a":1}'
NAME = "hooks.example.com"
TIMEOUT_SECONDS = 1.0


def loopback_settings() -> Settings:
    """Return settings that allow webhooks to this machine."""
    return made_settings(
        webhook_allowed_networks="127.0.0.0/8", webhook_timeout_seconds=TIMEOUT_SECONDS
    )


def resolve_to(*addresses: str) -> Callable[[str, int], list[str]]:
    """Return a resolver that gives these addresses for every name."""
    return lambda host, port: list(addresses)


def post(url: str, settings: Settings | None = None, **options: Any) -> CallResult:
    """Send a message, by default with settings that allow this machine.

    Args:
        options: of `WebhookClient`.
    """
    client = WebhookClient(settings or loopback_settings(), **options)
    return client.post(url, BODY, {"x-a": "b"})


@contextmanager
def raw_server(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """Run a server that calls `talk` for each connection; yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                try:
                    talk(connection)
                except OSError:
                    pass
                finally:
                    connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


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


def test_a_name_is_resolved_once_and_its_checked_address_is_called() -> None:
    addresses = itertools.chain([["127.0.0.1"]], itertools.repeat(["127.0.0.2"]))
    resolved = []

    def resolve(host: str, port: int) -> list[str]:
        resolved.append(host)
        return next(addresses)

    with receiving() as receiver:
        result = post(f"http://{NAME}:{receiver.port}/", resolve=resolve)

    assert result.is_delivered
    assert resolved == [NAME]
    assert receiver.received[0].headers["host"] == f"{NAME}:{receiver.port}"


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["93.184.215.14", "127.0.0.1"], ["::ffff:127.0.0.1"]], ids=str
)
def test_a_name_with_an_internal_address_is_reported_as_unknown(
    addresses: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A different error would let customers explore the names of the internal network."""
    with receiving() as receiver:
        url = f"http://{NAME}:{receiver.port}/"
        unknown = post(url, made_settings(), resolve=resolve_to())
        result = post(url, made_settings(), resolve=resolve_to(*addresses))

    assert replace(result, duration_ms=0) == replace(unknown, duration_ms=0)
    assert result.error == "the name has no public address"
    assert receiver.connections == 0
    logged = [vars(record)["host"] for record in caplog.records]
    assert logged == [NAME]  # the operator must see the difference


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::ffff:7f00:1]"])
def test_a_stored_url_that_is_not_allowed_is_refused_without_a_connection(host: str) -> None:
    with receiving() as receiver:
        result = post(f"http://{host}:{receiver.port}/", made_settings())

    assert result.is_refused
    assert receiver.connections == 0


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


def test_the_second_address_is_called_if_the_first_refuses() -> None:
    with receiving() as receiver:
        result = post(
            f"http://{NAME}:{receiver.port}/",
            resolve=resolve_to("127.0.0.2", "127.0.0.3", "127.0.0.1"),
        )

    assert result.is_delivered


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


def send_slowly(connection: socket.socket, text: bytes) -> None:
    """Send one byte every 0.1 s, for longer than the deadline."""
    for index in range(100):
        connection.sendall(text[index : index + 1] or b"x")
        time.sleep(0.1)  # a slow receiver, not a wait of the test


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
        result = post(f"http://127.0.0.1:{port}/")

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
    result = post(f"http://{NAME}/", resolve=resolve)
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


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@contextmanager
def tls_receiver(authority: trustme.CA, name: str, requested: list[Any]) -> Iterator[Receiver]:
    """Run a receiver with a certificate for `name`.

    Args:
        requested: collects the server names that clients request.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    context.sni_callback = lambda sock, server_name, _: requested.append(server_name)
    with receiving(tls=context) as receiver:
        yield receiver


@pytest.fixture
def trusting_context(authority: trustme.CA) -> ssl.SSLContext:
    """Return the client's side of TLS, which trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_tls_checks_the_receivers_name_while_its_address_is_called(
    authority: trustme.CA, trusting_context: ssl.SSLContext
) -> None:
    requested: list[Any] = []
    with tls_receiver(authority, NAME, requested) as receiver:
        url = f"https://{NAME}:{receiver.port}/"
        result = post(url, resolve=resolve_to("127.0.0.1"), tls=trusting_context)

    assert result.is_delivered, result
    assert requested == [NAME]
    assert receiver.received[0].headers["host"] == f"{NAME}:{receiver.port}"


def test_a_certificate_for_another_name_is_refused(
    authority: trustme.CA, trusting_context: ssl.SSLContext
) -> None:
    with tls_receiver(authority, "other.example.com", []) as receiver:
        url = f"https://{NAME}:{receiver.port}/"
        result = post(url, resolve=resolve_to("127.0.0.1"), tls=trusting_context)

    assert str(result.error).startswith("the certificate is not valid: Hostname mismatch")
    assert receiver.received == []


def test_a_self_signed_certificate_is_refused(authority: trustme.CA) -> None:
    with tls_receiver(authority, NAME, []) as receiver:
        result = post(f"https://{NAME}:{receiver.port}/", resolve=resolve_to("127.0.0.1"))

    assert str(result.error).startswith("the certificate is not valid")
    assert receiver.received == []


@pytest.mark.alone
def test_the_deadline_covers_tls(authority: trustme.CA, trusting_context: ssl.SSLContext) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            send_slowly(tls, b"HTTP/1.1 200 OK\r\nx-a: ")

    with raw_server(talk) as port:
        began_at = time.monotonic()
        result = post(
            f"https://{NAME}:{port}/", resolve=resolve_to("127.0.0.1"), tls=trusting_context
        )

        assert time.monotonic() - began_at < 2 * TIMEOUT_SECONDS
    assert result.error == "no response within 1 s"
