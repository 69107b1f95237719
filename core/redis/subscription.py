"""Subscribes a process to a channel of Redis, in a thread that reconnects until it is closed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import redis

#: How long the listener waits for a message before it checks whether it should stop. `close` wakes
#: it earlier, unless Redis is away.
POLL_SECONDS = 1.0
#: The wait after a broken connection.
RECONNECT_SECONDS = 0.2

_log = logging.getLogger(__name__)


class Subscription:
    """Calls `on_message` with each message of `channel`, on the listener's thread.

    Messages may be lost when Redis restarts or a connection breaks. So `on_connected` is called
    after each connection, including the first, to check for missed changes.

    Redis channels: `channel`, and `{channel}:{id}`, on which `close` wakes the listener.
    """

    def __init__(
        self,
        client: redis.Redis,
        channel: str,
        *,
        on_message: Callable[[bytes], None],
        on_connected: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._channel = channel
        self._wake_channel = f"{channel}:{uuid4()}"
        self._on_message = on_message
        self._on_connected = on_connected
        self._lock = threading.Lock()
        self._listener: threading.Thread | None = None
        self._closing = threading.Event()

    def listen(self) -> None:
        """Start the listener unless it runs."""
        if self._listener is not None and self._listener.is_alive():
            return
        with self._lock:
            if self._listener is None or not self._listener.is_alive():
                self._listener = threading.Thread(target=self._run, name=self._channel, daemon=True)
                self._listener.start()

    def close(self) -> None:
        """Stop the listener."""
        self._closing.set()
        if self._listener is None:
            return
        try:
            self._client.publish(self._wake_channel, b"")
        except redis.RedisError:
            _log.warning("a listener could not be woken: Redis is away")
        self._listener.join(timeout=2 * POLL_SECONDS)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                with self._client.pubsub() as subscription:
                    subscription.subscribe(self._channel, self._wake_channel)
                    self._forward(subscription)
            except redis.RedisError as error:
                _log.warning("lost the channel %s: %s", self._channel, type(error).__name__)
                self._closing.wait(RECONNECT_SECONDS)
            except Exception:
                # Broad on purpose: otherwise this process would receive no message until it ends.
                _log.exception("lost the channel %s", self._channel)
                self._closing.wait(RECONNECT_SECONDS)

    def _forward(self, subscription: redis.client.PubSub) -> None:
        while not self._closing.is_set():
            message = _next(subscription)
            if message is None or message["channel"] != self._channel.encode():
                continue
            try:
                if message["type"] == "subscribe":
                    self._on_connected()
                elif message["type"] == "message":
                    self._on_message(message["data"])
            except redis.RedisError:
                raise
            except Exception:
                # One bad message must not end the subscription.
                _log.exception("a message of %s could not be handled", self._channel)


def _next(subscription: redis.client.PubSub) -> Any:
    """Return the next message, or `None` after `POLL_SECONDS`.

    Does the same as `get_message`, without its two checks of the socket before each read: among
    greenlets they cost more than handling the message.
    """
    connection: Any = subscription.connection
    subscription.check_health()
    try:
        response = connection.read_response(
            disconnect_on_error=False, push_request=True, timeout=POLL_SECONDS
        )
    except redis.TimeoutError:
        return None
    return subscription.handle_message(response)
