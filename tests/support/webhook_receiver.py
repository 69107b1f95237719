"""A receiver of webhooks for tests: a real HTTP server that records its requests."""

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
    """One request; `at` is the monotonic time of its arrival."""

    at: float
    path: str
    headers: dict[str, str]
    body: bytes

    def verified(self, secret: str) -> Any:
        """Return the message; raise if its signature is wrong."""
        return Webhook(secret).verify(self.body, self.headers)


#: Returns status and headers of a response, given the number of earlier requests.
Responder = Callable[[int], tuple[int, dict[str, str]]]


class Receiver:
    def __init__(self, respond: Responder, tls: ssl.SSLContext | None, port: int) -> None:
        self.received: list[Received] = []
        self.connections = 0
        self._respond = respond
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
            count_before = len(self.received)
            sent = {name.lower(): value for name, value in request.headers.items()}
            self.received.append(Received(time.monotonic(), request.path, sent, body))
        status, headers = self._respond(count_before)
        request.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            request.send_header(name, value)
        request.end_headers()

    @property
    def ids(self) -> list[str]:
        return [received.headers["webhook-id"] for received in self.received]


@contextmanager
def receiving(
    respond: Responder = lambda count_before: (200, {}),
    *,
    tls: ssl.SSLContext | None = None,
    port: int = 0,
) -> Iterator[Receiver]:
    """Run a receiver during the block; by default it accepts every message."""
    receiver = Receiver(respond, tls, port)
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
