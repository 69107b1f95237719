"""A receiver of webhooks that tests run: a real HTTP server that notes what it gets."""

from __future__ import annotations

import http.server
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from standardwebhooks import Webhook


@dataclass(frozen=True, slots=True)
class Received:
    """One request."""

    at: float
    path: str
    headers: dict[str, str]
    body: bytes

    def verified(self, secret: str) -> Any:
        """Return the message, if its signature is right."""
        return Webhook(secret).verify(self.body, self.headers)


#: Answers a request, given how many came before it: status and headers.
Answer = Callable[[int], tuple[int, dict[str, str]]]


class Receiver:
    def __init__(self, answer: Answer, tls: ssl.SSLContext | None, port: int) -> None:
        self.received: list[Received] = []
        self.connections = 0
        self._answer = answer
        self._lock = threading.Lock()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.handle(self)

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 64

            def get_request(self) -> Any:
                receiver.connections += 1
                return super().get_request()

            def handle_error(self, *_: Any) -> None:
                pass  # clients that leave are part of the tests

        self.server = Server(("127.0.0.1", port), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.port}/hook"

    def handle(self, request: http.server.BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        with self._lock:
            place = len(self.received)
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.received.append(Received(time.monotonic(), request.path, headers, body))
        status, answer_headers = self._answer(place)
        request.send_response(status)
        for name, value in {"Content-Length": "0", **answer_headers}.items():
            request.send_header(name, value)
        request.end_headers()

    @property
    def ids(self) -> list[str]:
        return [received.headers["webhook-id"] for received in self.received]


@contextmanager
def receiving(
    answer: Answer = lambda place: (200, {}), *, tls: ssl.SSLContext | None = None, port: int = 0
) -> Iterator[Receiver]:
    """Run a receiver for the length of the block."""
    receiver = Receiver(answer, tls, port)
    thread = threading.Thread(
        target=receiver.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()
        thread.join()
