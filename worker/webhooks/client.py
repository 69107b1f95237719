"""Sends one POST to a receiver's checked address, within one deadline."""

from __future__ import annotations

import logging
import queue
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from http.client import HTTPException, HTTPResponse, IncompleteRead
from io import BufferedReader
from typing import Any, cast

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as HTTPTimeout
from urllib3.response import BaseHTTPResponse

from core.config.settings import Settings
from core.text.retry_after_header import read_retry_after
from core.webhooks.target import (
    Address,
    PrivateAddress,
    Resolve,
    TargetRefused,
    WebhookTarget,
    allowed_addresses,
    read_target,
    resolve_name,
)

_log = logging.getLogger(__name__)

USER_AGENT = "BountyCoder-Webhooks/1"
#: Most bytes of a response that are read, and discarded.
MAX_RESPONSE_BYTES = 64 * 1024
#: Most addresses of a name that are tried.
MAX_ADDRESSES = 3


@dataclass(frozen=True, slots=True)
class CallResult:
    """The result of a call.

    Attributes:
        status: HTTP status of the response; `None` without one.
        error: description of the failure for the receiver's owner.
        is_refused: nothing was sent, because the target is not allowed.
        retry_after_seconds: the delay that the receiver requested.
    """

    duration_ms: int = 0
    status: int | None = None
    error: str | None = None
    is_refused: bool = False
    retry_after_seconds: float | None = None

    @property
    def is_delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class WebhookClient:
    """Calls receivers; keeps no connection between two calls."""

    def __init__(
        self,
        settings: Settings,
        *,
        resolve: Resolve = resolve_name,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._timeout_seconds = settings.webhook_timeout_seconds
        self._resolve = resolve
        self._tls = tls or ssl.create_default_context()

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> CallResult:
        """Send a body and return the result; never raise for an error of the receiver."""
        began = time.monotonic()
        deadline = began + self._timeout_seconds
        try:
            result = self._post(url, body, headers, deadline)
        except TargetRefused as refusal:
            result = CallResult(error=f"refused: {refusal}", is_refused=True)
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            is_late = time.monotonic() >= deadline or _is_timeout(error)
            late = f"no response within {self._timeout_seconds:g} s"
            result = CallResult(error=late if is_late else _explain(error))
        return replace(result, duration_ms=round((time.monotonic() - began) * 1000))

    def _post(self, url: str, body: bytes, headers: dict[str, str], deadline: float) -> CallResult:
        target = read_target(url, self._settings)
        connection = self._connect(target, self._addresses(target, deadline), deadline)
        # A socket's timeout restarts with each byte: a slow receiver could hold us for ever.
        timer = threading.Timer(deadline - time.monotonic(), _shut_down, [connection.sock])
        timer.daemon = True
        timer.start()
        try:
            connection.request(
                "POST",
                target.path,
                body=body,
                headers={
                    "Host": target.host_header,
                    "User-Agent": USER_AGENT,
                    "Content-Type": "application/json",
                    "Accept-Encoding": "identity",
                    "Connection": "close",
                    **headers,
                },
                preload_content=False,
                decode_content=False,
            )
            response = connection.getresponse()
            with suppress(HTTPError, HTTPException, OSError, ValueError):
                response.read(MAX_RESPONSE_BYTES)
            return _result_of(response)
        finally:
            timer.cancel()
            connection.close()

    def _addresses(self, target: WebhookTarget, deadline: float) -> Sequence[Address]:
        """Resolve and check on a separate thread: the system's resolver has no timeout."""
        found: queue.SimpleQueue[Sequence[Address] | Exception] = queue.SimpleQueue()

        def resolve() -> None:
            try:
                found.put(allowed_addresses(target, self._settings, self._resolve))
            except (TargetRefused, OSError, ValueError) as error:
                if isinstance(error, PrivateAddress):
                    _log.warning(
                        "a webhook's name resolves to an internal address",
                        extra={"host": target.host},
                    )
                found.put(error)

        threading.Thread(target=resolve, name="webhook-name", daemon=True).start()
        try:
            result = found.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(result, TargetRefused):
            raise result
        if isinstance(result, Exception) or not result:
            raise socket.gaierror
        return result

    def _connect(
        self, target: WebhookTarget, addresses: Sequence[Address], deadline: float
    ) -> HTTPConnection:
        """Connect to the first address that accepts; do not resolve the name again."""
        candidates = addresses[:MAX_ADDRESSES]
        for index, address in enumerate(candidates):
            remaining = max(0.001, deadline - time.monotonic())
            connection = self._connection(target, address, remaining / (len(candidates) - index))
            try:
                connection.connect()
                connection.sock.settimeout(max(0.001, deadline - time.monotonic()))
                return connection
            except (HTTPError, OSError) as error:
                connection.close()
                if index == len(candidates) - 1 or isinstance(error, ssl.SSLError):
                    raise
        raise socket.gaierror

    def _connection(
        self, target: WebhookTarget, address: Address, timeout_seconds: float
    ) -> HTTPConnection:
        connection = (
            HTTPSConnection(
                str(address),
                target.port,
                timeout=timeout_seconds,
                ssl_context=self._tls,
                server_hostname=target.host,
            )
            if target.is_tls
            else HTTPConnection(str(address), target.port, timeout=timeout_seconds)
        )
        connection.response_class = _StrictResponse
        return connection


class _StrictResponse(HTTPResponse):
    """A response with a complete head; the standard library accepts less."""

    def begin(self) -> None:
        """Read the head.

        Raises:
            IncompleteRead: the connection ended within the head.
        """
        lines = _LastLineReader(self.fp)
        self.fp = cast(BufferedReader, lines)
        super().begin()
        if lines.last not in {b"\r\n", b"\n"}:
            raise IncompleteRead(lines.last)
        if not self.isclosed():
            self.fp = lines.file


class _LastLineReader:
    """A file that remembers the last line that was read."""

    def __init__(self, file: BufferedReader) -> None:
        self.file = file
        self.last = b""

    def readline(self, *limit: int) -> bytes:
        self.last = self.file.readline(*limit)
        return self.last

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _result_of(response: BaseHTTPResponse) -> CallResult:
    status = response.status
    if 200 <= status < 300:
        return CallResult(status=status)
    error = "redirects are not followed" if 300 <= status < 400 else f"responded with {status}"
    retry_after = read_retry_after(response.headers.get("Retry-After", ""))
    return CallResult(status=status, error=error, retry_after_seconds=retry_after)


def _is_timeout(error: Exception) -> bool:
    return isinstance(error, TimeoutError) or (
        isinstance(error, HTTPTimeout) and not isinstance(error, NewConnectionError)
    )


def _explain(error: Exception) -> str:
    """Describe an error in our words: messages of libraries contain addresses."""
    if isinstance(error, socket.gaierror):
        return "the name has no public address"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "TLS could not be agreed on"
    if isinstance(error, NewConnectionError):
        return "no connection"
    if isinstance(error, (OSError, IncompleteRead)):
        return "the connection broke"
    return "the response is not HTTP"


def _shut_down(sock: socket.socket) -> None:
    """Close a connection, with or without TLS, while another thread reads from it."""
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
