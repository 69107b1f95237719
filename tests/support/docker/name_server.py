"""A name server for tests: one name, whose addresses a test changes while it runs."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

HEADER_BYTES = 12
ANSWER = 0x8180
#: Points to the name in the question.
NAME = 0xC00C
ADDRESS, INTERNET = 1, 1
SECONDS = 1


@dataclass
class Names:
    """Answers every question about an IPv4 address with `addresses`."""

    addresses: list[str]
    _socket: socket.socket = field(repr=False)

    @classmethod
    @contextmanager
    def served(cls, *addresses: str) -> Iterator[Names]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0))
            server.settimeout(0.1)
            names = cls(list(addresses), server)
            stop = threading.Event()
            thread = threading.Thread(target=names._serve, args=[stop])
            thread.start()
            try:
                yield names
            finally:
                stop.set()
                thread.join(10)

    @property
    def resolver(self) -> str:
        """What NGINX calls it."""
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def _serve(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                question, caller = self._socket.recvfrom(512)
            except TimeoutError:
                continue
            self._socket.sendto(self._answer(question), caller)

    def _answer(self, question: bytes) -> bytes:
        asked = question[HEADER_BYTES:].partition(b"\0")[0] + b"\0" + struct.pack(">HH", 1, 1)
        head = question[:2] + struct.pack(">HHHHH", ANSWER, 1, len(self.addresses), 0, 0)
        answers = [
            struct.pack(">HHHIH", NAME, ADDRESS, INTERNET, SECONDS, 4) + socket.inet_aton(address)
            for address in self.addresses
        ]
        return head + asked + b"".join(answers)
