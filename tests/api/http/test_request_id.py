"""A valid `x-request-id` is returned to its caller, and an invalid one reaches no header."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest

from tests.support.service import Service


def exchange(service: Service, request: bytes) -> bytes:
    """Send raw bytes and return the bytes of the response."""
    address = ("127.0.0.1", service.settings.api_port)
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(request)
        response = b""
        while piece := connection.recv(65536):
            response += piece
    return response


def get(service: Service, header: bytes) -> bytes:
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + header + b"\r\n\r\n"
    return exchange(service, head)


def test_a_valid_id_is_returned(service: Service) -> None:
    response = get(service, b"x-request-id: My.own_id:1-2")

    assert b"\r\nx-request-id: My.own_id:1-2\r\n" in response


@pytest.mark.parametrize(
    "value",
    [
        b"a\r\n set-cookie: evil=1",
        b"a\nset-cookie: evil=1",
        b"a\rset-cookie: evil=1",
        b"a%0d%0aset-cookie: evil=1",
        "a\u560d\u560aset-cookie: evil=1".encode(),
        b"a\x00set-cookie: evil=1",
        b'a" set-cookie: evil=1',
        b"x" * 129 + b"evil=1",
        b"a b evil=1",
        b"",
    ],
)
def test_an_invalid_id_is_replaced(service: Service, value: bytes) -> None:
    head, _, body = get(service, b"x-request-id: " + value).partition(b"\r\n\r\n")

    lines = head.lower().split(b"\r\n")
    assert not [line for line in lines if line.startswith(b"set-cookie")]
    assert b"evil" not in head + body
    assert lines[0] in {b"http/1.1 200 ok", b"http/1.1 400 bad request"}
    if b"200" in lines[0]:
        (own,) = [line for line in lines if line.startswith(b"x-request-id: ")]
        assert own.startswith(b"x-request-id: req_")
        assert len(own) == len(b"x-request-id: req_") + 32


def test_two_ids_are_both_replaced(service: Service) -> None:
    response = get(service, b"x-request-id: one\r\nx-request-id: two")

    assert b"\r\nx-request-id: req_" in response


def test_malformed_http_gets_the_same_error_shape(service: Service) -> None:
    for request in (
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon here\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    ):
        head, _, body = exchange(service, request).partition(b"\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 400 "), head
        assert b"application/json" in head
        assert body.startswith(b'{"error":')
        assert b"malformed" in body


def test_a_valid_request_id_is_used_and_an_invalid_one_is_replaced(service: Service) -> None:
    sane = service.call("GET", "/healthz", headers={"x-request-id": "mine-42"})
    wild = service.call("GET", "/healthz", headers={"x-request-id": "a b<script>"})

    assert sane.headers["x-request-id"] == "mine-42"
    assert wild.headers["x-request-id"].startswith("req_")


def test_a_line_break_in_a_request_id_reaches_no_header(service: Service) -> None:
    place = urlsplit(service.url)
    with socket.create_connection((place.hostname, place.port), timeout=10) as raw:
        raw.sendall(
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"x-request-id: a\r\n x-evil: 1\r\n\r\n"
        )
        response = b"".join(iter(lambda: raw.recv(65536), b""))

    assert b"\r\nx-evil" not in response.lower()
