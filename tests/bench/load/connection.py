"""HTTP/1.1 for a load generator: persistent connections, whole responses, little work for each.

A general client would take more processor time than the service under test.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import cast

#: A connection that was idle this long is not reused: the service closes it after 75 s.
IDLE_SECONDS = 30.0
_HEAD_END = b"\r\n\r\n"


class BrokenResponse(Exception):
    """The connection ended before the response did, or the bytes are not HTTP."""


@dataclass(slots=True)
class Response:
    """A whole response.

    Attributes:
        first_at: when the first event of a stream arrived.
        done_at: when the last byte arrived.
    """

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    first_at: float = 0.0
    done_at: float = 0.0


class ResponseParser:
    """Reads one response piece by piece."""

    def __init__(self) -> None:
        self.response = Response()
        self._buffer = bytearray()
        self._body = bytearray()
        self._length: int | None = None
        self._is_chunked = False

    def receive(self, data: bytes) -> bool:
        """Take the next bytes; return True when the response is whole.

        Raises:
            BrokenResponse: the bytes are not HTTP.
        """
        self._buffer += data
        if not self.response.status and not self._read_head():
            return False
        is_whole = self._read_chunks() if self._is_chunked else self._read_rest()
        if not self.response.first_at and b"data:" in self._body:
            self.response.first_at = time.perf_counter()
        if is_whole:
            self.response.body = bytes(self._body)
            self.response.done_at = time.perf_counter()
        return is_whole

    def _read_head(self) -> bool:
        head, end, rest = self._buffer.partition(_HEAD_END)
        if not end:
            return False
        first, *lines = bytes(head).split(b"\r\n")
        try:
            self.response.status = int(first.split(b" ", 2)[1])
            for line in lines:
                name, _, value = line.partition(b":")
                self.response.headers[name.lower()] = value.strip()
            self._is_chunked = self.response.headers.get(b"transfer-encoding") == b"chunked"
            if not self._is_chunked:
                self._length = int(self.response.headers[b"content-length"])
        except (IndexError, KeyError, ValueError) as error:
            raise BrokenResponse(repr(first)) from error
        self._buffer = rest
        return True

    def _read_rest(self) -> bool:
        self._body += self._buffer
        self._buffer.clear()
        return self._length is not None and len(self._body) >= self._length

    def _read_chunks(self) -> bool:
        while True:
            end = self._buffer.find(b"\r\n")
            if end < 0:
                return False
            try:
                size = int(self._buffer[:end], 16)
            except ValueError as error:
                raise BrokenResponse("the length of a chunk is no number") from error
            begin = end + 2
            if len(self._buffer) < begin + size + 2:
                return False
            self._body += self._buffer[begin : begin + size]
            del self._buffer[: begin + size + 2]
            if size == 0:
                return True


class _Connection(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.idle_since = 0.0
        self.is_closed = False
        self._parser = ResponseParser()
        self._waiting: asyncio.Future[Response] | None = None

    def ask(self, request: bytes) -> asyncio.Future[Response]:
        assert self.transport is not None
        self._parser = ResponseParser()
        self._waiting = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._waiting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._waiting is None or self._waiting.done():
            return self.end()
        try:
            if self._parser.receive(data):
                self._waiting.set_result(self._parser.response)
        except BrokenResponse as error:
            self._waiting.set_exception(error)
            self.end()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(BrokenResponse("the connection ended"))

    def end(self) -> None:
        self.is_closed = True
        if self.transport is not None:
            self.transport.abort()


class Connections:
    """Connections to one local port, one for each open request."""

    def __init__(self, port: int, *, timeout_seconds: float) -> None:
        self._port = port
        self._timeout_seconds = timeout_seconds
        self._idle: list[_Connection] = []

    async def ask(self, request: bytes) -> Response:
        """Send a request and return its response.

        Raises:
            BrokenResponse: the response is missing, incomplete or not HTTP.
            TimeoutError: the response took longer than `timeout_seconds`.
            OSError: the connection was refused.
        """
        async with asyncio.timeout(self._timeout_seconds):
            connection = self._take() or await self._open()
            try:
                response = await connection.ask(request)
            except BaseException:
                connection.end()
                raise
        if response.headers.get(b"connection", b"").lower() == b"close":
            connection.end()
        else:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        return response

    async def close(self) -> None:
        for connection in self._idle:
            connection.end()
        self._idle.clear()
        await asyncio.sleep(0)  # the loop closes their sockets in its next iteration

    def _take(self) -> _Connection | None:
        oldest = time.monotonic() - IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed and connection.idle_since > oldest:
                return connection
            connection.end()
        return None

    async def _open(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._port)
        return connection
