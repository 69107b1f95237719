"""A server with failures that the real service cannot reproduce: cut downloads, 503 then 200, …

It implements only the part of the API that these tests need. Other tests use the real service.
"""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

Handler = http.server.BaseHTTPRequestHandler
#: Responds to one request.
Step = Callable[[Handler], None]


@dataclass(frozen=True, slots=True)
class Seen:
    """A received request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class FailingService:
    """Respond with one step for each request, and with the last step to all later requests."""

    def __init__(self, steps: tuple[Step, ...]) -> None:
        self.seen: list[Seen] = []
        self._steps = steps
        service = self

        class Served(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                service.handle(self)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass  # clients that leave are part of the tests

        self.server = Server(("127.0.0.1", 0), Served)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def handle(self, request: Handler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in request.headers.items()}
        step = self._steps[min(len(self.seen), len(self._steps) - 1)]
        self.seen.append(Seen(request.command, request.path, headers, body))
        step(request)

    @property
    def paths(self) -> list[str]:
        return [seen.path.removeprefix("/api/llm/batches") for seen in self.seen]


@contextmanager
def failing(*steps: Step) -> Iterator[FailingService]:
    """Run the server during the block."""
    service = FailingService(steps)
    thread = threading.Thread(
        target=service.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield service
    finally:
        service.server.shutdown()
        service.server.server_close()
        thread.join()


def responds(status: int, body: Any, **headers: str) -> Step:
    """Respond with JSON, or with raw bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    def respond(request: Handler) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(data)

    return respond


def refuses(status: int, code: str, message: str = "no", **more: Any) -> Step:
    """Respond with an error of the API; `more` has fields and headers."""
    fields = more.pop("fields", [])
    error = {"code": code, "type": "t", "message": message, "param": None, "fields": fields}
    return responds(status, {"error": {**error, "requestId": "req_1"}}, **more)


def disconnects_after(data: bytes, *, length: int) -> Step:
    """Promise `length` bytes, send `data` and break the connection."""

    def respond(request: Handler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(length))
        request.end_headers()
        request.wfile.write(data)
        disconnects(request)

    return respond


def ends_early(data: bytes) -> Step:
    """Send `data` and close the connection: the response looks complete to the client."""

    def respond(request: Handler) -> None:
        request.send_response(200)
        request.send_header("Connection", "close")
        request.end_headers()
        request.wfile.write(data)
        request.close_connection = True

    return respond


def disconnects(request: Handler) -> None:
    """Close the connection without a response."""
    request.close_connection = True
    request.wfile.flush()
    request.connection.shutdown(socket.SHUT_RDWR)


def batch(status: str = "completed", total: int = 3, **counts: int) -> dict[str, Any]:
    """Return a batch as the API returns it; by default all lines succeeded."""
    given = counts or {"succeeded": total}
    names = ("queued", "running", "succeeded", "failed", "cancelled", "expired")
    return {
        "id": "batch_1",
        "object": "batch",
        "name": None,
        "status": status,
        "model": "a-model",
        "total": total,
        "counts": {name: given.get(name, 0) for name in names},
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
        "linesPerSecond": 2.0 if status == "running" else None,
        "estimatedSeconds": 90 if status == "running" else None,
        "createdAt": "2026-11-25T12:00:00Z",
    }


def result_lines(*numbers: int) -> bytes:
    return b"".join(
        b'{"line": %d, "custom_id": null, "response": {"text": "caf\xc3\xa9"}}\n' % number
        for number in numbers
    )
