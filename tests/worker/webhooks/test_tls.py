"""The webhook client verifies the certificate of a receiver's name."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trustme

from tests.support.webhook_receiver import Receiver, receiving
from tests.support.worker.webhook_calls import (
    NAME,
    TIMEOUT_SECONDS,
    loopback_settings,
    post,
    raw_server,
    resolve_to,
    send_slowly,
)


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
            f"https://{NAME}:{port}/",
            loopback_settings(TIMEOUT_SECONDS),
            resolve=resolve_to("127.0.0.1"),
            tls=trusting_context,
        )

        assert time.monotonic() - began_at < 2 * TIMEOUT_SECONDS
    assert result.error == "no response within 1 s"
