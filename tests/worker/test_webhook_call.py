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

from core.settings import Settings
from tests.core.test_webhook_target import made_settings
from tests.receiver import Receiver, receiving
from worker.webhook_call import CallResult, WebhookCaller

BODY = b'{"a":1}'
NAME = "hooks.example.com"
#: Of the tests of the time-out; the others wait longer than a busy machine takes.
TIMEOUT, LONG = 1.0, 30.0


def open_to_loopback(**changes: Any) -> Settings:
    usual = {"webhook_allowed_networks": "127.0.0.0/8", "webhook_timeout_seconds": LONG}
    return made_settings(**{**usual, **changes})


def impatient() -> Settings:
    return open_to_loopback(webhook_timeout_seconds=TIMEOUT)


def to(*addresses: str) -> Callable[[str, int], list[str]]:
    return lambda host, port: list(addresses)


def post(url: str, settings: Settings | None = None, **parts: Any) -> CallResult:
    return WebhookCaller(settings or open_to_loopback(), **parts).post(url, BODY, {"x-a": "b"})


@contextmanager
def raw_server(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that says to each connection what it likes."""
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


def test_a_message_arrives_as_it_was_given() -> None:
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
    answers = itertools.chain([["127.0.0.1"]], itertools.repeat(["127.0.0.2"]))
    asked = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    with receiving() as receiver:
        result = post(f"http://{NAME}:{receiver.port}/", resolve=resolve)

    assert result.is_delivered
    assert asked == [NAME]
    assert receiver.received[0].headers["host"] == f"{NAME}:{receiver.port}"


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["93.184.215.14", "127.0.0.1"], ["::ffff:127.0.0.1"]], ids=str
)
def test_a_name_that_leads_inside_is_told_as_one_that_is_unknown(
    addresses: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with receiving() as receiver:
        url = f"http://{NAME}:{receiver.port}/"
        unknown = post(url, made_settings(), resolve=to())
        result = post(url, made_settings(), resolve=to(*addresses))

    assert replace(result, duration_ms=0) == replace(unknown, duration_ms=0)
    assert result.error == "the name has no public address"
    assert receiver.connections == 0
    assert [vars(record)["host"] for record in caplog.records] == [NAME]  # for the operator


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::ffff:7f00:1]"])
def test_a_stored_url_that_is_not_allowed_is_refused_without_a_connection(host: str) -> None:
    with receiving() as receiver:
        result = post(f"http://{host}:{receiver.port}/", made_settings())

    assert result.is_refused
    assert receiver.connections == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with (
        receiving() as inside,
        receiving(lambda place: (status, {"Location": inside.url})) as receiver,
    ):
        result = post(receiver.url)

    assert not result.is_delivered
    assert (result.status, result.error) == (status, "redirects are not followed")
    assert len(receiver.received) == 1
    assert inside.connections == 0


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as proxy, receiving() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")

        assert post(receiver.url).is_delivered
    assert proxy.connections == 0


def test_the_second_address_is_called_if_the_first_has_nobody() -> None:
    with receiving() as receiver:
        result = post(
            f"http://{NAME}:{receiver.port}/", resolve=to("127.0.0.2", "127.0.0.3", "127.0.0.1")
        )

    assert result.is_delivered


@pytest.mark.parametrize(("status", "is_delivered"), [(200, True), (204, True), (500, False)])
def test_only_2xx_is_delivered(status: int, is_delivered: bool) -> None:
    with receiving(lambda place: (status, {})) as receiver:
        result = post(receiver.url)

    assert (result.status, result.is_delivered) == (status, is_delivered)
    assert result.error == (None if is_delivered else "answered 500")


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
    with receiving(lambda place: (503, {"Retry-After": header})) as receiver:
        result = post(receiver.url)

    assert result.retry_after_seconds == seconds


def drip(connection: socket.socket, text: bytes) -> None:
    """Send a byte now and then, for longer than anyone should wait."""
    for place in range(100):
        connection.sendall(text[place : place + 1] or b"x")
        time.sleep(0.1)


def drip_on(connection: socket.socket, text: bytes) -> None:
    """Send all at once, and then a byte now and then."""
    connection.sendall(text)
    drip(connection, b"x-b: ")


def say_nothing(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


@pytest.mark.parametrize(
    "talk",
    [
        say_nothing,
        lambda connection: drip(connection, b"HTTP/1.1 200 OK\r\nx-a: "),
        lambda connection: drip_on(connection, b"HTTP/1.1 200 OK\r\nx-a: b\r\n"),
        lambda connection: drip(connection, b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    ],
    ids=["silent", "drips a header", "never ends its head", "continues for ever"],
)
def test_a_receiver_has_only_its_time(talk: Callable[[socket.socket], None]) -> None:
    with raw_server(talk) as port:
        began = time.monotonic()
        result = post(f"http://127.0.0.1:{port}/", impatient())

        assert TIMEOUT <= time.monotonic() - began < 2 * TIMEOUT
    assert (result.status, result.error) == (None, "no answer within 1 s")
    assert result.duration_ms >= 1000 * TIMEOUT


def test_the_time_holds_for_a_name_that_nobody_resolves() -> None:
    answer = threading.Event()

    def resolve(host: str, port: int) -> list[str]:
        answer.wait(10 * TIMEOUT)
        return []

    began = time.monotonic()
    result = post(f"http://{NAME}/", impatient(), resolve=resolve)
    answer.set()

    assert time.monotonic() - began < 2 * TIMEOUT
    assert result.error == "no answer within 1 s"


def test_a_body_without_end_does_not_hold_a_message_that_was_taken() -> None:
    def pour(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            connection.sendall(bytes(65536))
            poured.append(65536)

    poured: list[int] = []
    with raw_server(pour) as port:
        result = post(f"http://127.0.0.1:{port}/")

    assert result.is_delivered
    assert sum(poured) < 50_000_000


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", "the connection broke"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\n", "the connection broke"),
        (b"HTTP/1.1 200 OK\r\na: b\r\n", "the connection broke"),
        (b"HTTP/1.1 204 No Content\r\nContent-Le", "the connection broke"),
    ],
)
def test_what_is_not_http_is_told_apart(said: bytes, error: str) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(said)

    with raw_server(talk) as port:
        result = post(f"http://127.0.0.1:{port}/")

    assert (result.status, result.error) == (None, error)


def test_nobody_there_and_no_such_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    assert post(f"http://127.0.0.1:{port}/").error == "no connection"
    assert post(f"http://{NAME}/", resolve=resolve).error == "the name has no public address"
    assert post(f"http://{NAME}/", resolve=to()).error == "the name has no public address"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@contextmanager
def tls_receiver(authority: trustme.CA, name: str, said: list[Any]) -> Iterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    context.sni_callback = lambda sock, server_name, _: said.append(server_name)
    with receiving(tls=context) as receiver:
        yield receiver


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_tls_is_for_the_receivers_name_though_an_address_is_called(
    authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    said: list[Any] = []
    with tls_receiver(authority, NAME, said) as receiver:
        url = f"https://{NAME}:{receiver.port}/"
        result = post(url, resolve=to("127.0.0.1"), tls=trusting)

    assert result.is_delivered, result
    assert said == [NAME]
    assert receiver.received[0].headers["host"] == f"{NAME}:{receiver.port}"


def test_a_certificate_for_another_name_is_refused(
    authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    with tls_receiver(authority, "other.example.com", []) as receiver:
        url = f"https://{NAME}:{receiver.port}/"
        result = post(url, resolve=to("127.0.0.1"), tls=trusting)

    assert str(result.error).startswith("the certificate is not valid: Hostname mismatch")
    assert receiver.received == []


def test_a_certificate_of_nobody_is_refused(authority: trustme.CA) -> None:
    with tls_receiver(authority, NAME, []) as receiver:
        result = post(f"https://{NAME}:{receiver.port}/", resolve=to("127.0.0.1"))

    assert str(result.error).startswith("the certificate is not valid")
    assert receiver.received == []


def test_the_time_holds_under_tls_too(authority: trustme.CA, trusting: ssl.SSLContext) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            drip(tls, b"HTTP/1.1 200 OK\r\nx-a: ")

    with raw_server(talk) as port:
        began = time.monotonic()
        result = post(f"https://{NAME}:{port}/", impatient(), resolve=to("127.0.0.1"), tls=trusting)

        assert time.monotonic() - began < 2 * TIMEOUT
    assert result.error == "no answer within 1 s"
