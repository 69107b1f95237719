"""Calls of the webhook client to servers on this machine."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from core.config.settings import Settings
from tests.support.factories.settings import made_settings
from worker.webhooks.client import CallResult, WebhookClient

BODY = b'{"a":1}'
NAME = "hooks.example.com"
#: Of tests of the deadline; others wait longer than a busy machine takes.
TIMEOUT_SECONDS, LONG_SECONDS = 1.0, 30.0


def loopback_settings(seconds: float = LONG_SECONDS) -> Settings:
    """Return settings that allow webhooks to this machine, with a deadline of so many seconds."""
    return made_settings(webhook_allowed_networks="127.0.0.0/8", webhook_timeout_seconds=seconds)


def resolve_to(*addresses: str) -> Callable[[str, int], list[str]]:
    """Return a resolver that gives these addresses for every name."""
    return lambda host, port: list(addresses)


def post(url: str, settings: Settings | None = None, **options: Any) -> CallResult:
    """Send a message, by default with settings that allow this machine.

    Args:
        options: of `WebhookClient`.
    """
    client = WebhookClient(settings or loopback_settings(), **options)
    return client.post(url, BODY, {"x-a": "b"})


@contextmanager
def raw_server(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """Run a server that calls `talk` for each connection; yield its port."""
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


def send_slowly(connection: socket.socket, text: bytes) -> None:
    """Send one byte every 0.1 s, for longer than the deadline."""
    for index in range(100):
        connection.sendall(text[index : index + 1] or b"x")
        time.sleep(0.1)  # a slow receiver, not a wait of the test
