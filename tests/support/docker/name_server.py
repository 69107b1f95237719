"""A name server for tests: one name, whose addresses a test may change."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

HEADER_BYTES = 12
#: A response without an error, with recursion.
RESPONSE_FLAGS = 0x8180
#: Points to the name in the question.
NAME = 0xC00C
ADDRESS, INTERNET = 1, 1
SECONDS = 1


@dataclass
class NameServer:
    """Responds to every query for an IPv4 address with `addresses`."""

    addresses: list[str]
    _socket: socket.socket = field(repr=False)

    @classmethod
    @contextmanager
    def started(cls, *addresses: str) -> Iterator[NameServer]:
        """Run a name server on loopback while the block runs."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0))
            server.settimeout(0.1)
            name_server = cls(list(addresses), server)
            stop = threading.Event()
            thread = threading.Thread(target=name_server._serve, args=[stop])
            thread.start()
            try:
                yield name_server
            finally:
                stop.set()
                thread.join(10)

    @property
    def resolver(self) -> str:
        """The address of the server, as NGINX's `resolver` takes it."""
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def _serve(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                query, client = self._socket.recvfrom(512)
            except TimeoutError:
                continue
            self._socket.sendto(self._respond(query), client)

    def _respond(self, query: bytes) -> bytes:
        question = query[HEADER_BYTES:].partition(b"\0")[0] + b"\0" + struct.pack(">HH", 1, 1)
        head = query[:2] + struct.pack(">HHHHH", RESPONSE_FLAGS, 1, len(self.addresses), 0, 0)
        records = [
            struct.pack(">HHHIH", NAME, ADDRESS, INTERNET, SECONDS, 4) + socket.inet_aton(address)
            for address in self.addresses
        ]
        return head + question + b"".join(records)
