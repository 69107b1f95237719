"""Opens Redis clients with a bounded pool and bounded waits; checks whether Redis takes writes.

Redis keys:
    writable    written by every readiness check; expires within seconds
"""

from __future__ import annotations

import weakref
from typing import Any

import redis

from core.config.settings import Settings

#: The most connections of one process; further callers wait for a free one.
MAX_CONNECTIONS = 64
#: First words of the errors of a Redis that reads but does not write: it is a replica, its last
#: save to disk failed, or it has too few replicas.
_READ_ONLY = ("READONLY", "MISCONF", "NOREPLICAS")
_PROOF_KEY = "writable"
_PROOF_MS = 10_000


class _LeavesReplicas:
    """A connection that reconnects after its server turned out to be a replica.

    A failover may leave the connection open to the former primary, while the name in `REDIS_URL`
    already resolves to the new one.
    """

    _is_to_replica = False

    def send_packed_command(self: Any, command: Any, check_health: bool = True) -> None:
        if self._is_to_replica:
            self._is_to_replica = False
            self.disconnect()
        super().send_packed_command(command, check_health)  # type: ignore[misc]

    def read_response(self: Any, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except redis.exceptions.ReadOnlyError:
            self._is_to_replica = True
            raise


def open_redis(settings: Settings, *, max_connections: int = MAX_CONNECTIONS) -> redis.Redis:
    """Return a client; it connects with its first call.

    Every call ends within `redis_timeout_seconds`, with `redis.RedisError` when Redis is away.
    """
    pool = redis.BlockingConnectionPool.from_url(
        settings.redis_url.get_secret_value(),
        max_connections=max_connections,
        timeout=settings.redis_timeout_seconds,
        socket_timeout=settings.redis_timeout_seconds,
        socket_connect_timeout=settings.redis_timeout_seconds,
        socket_keepalive=True,
        health_check_interval=30,
    )
    pool.connection_class = type("Connection", (_LeavesReplicas, pool.connection_class), {})
    client = redis.Redis(connection_pool=pool)
    # The garbage collector might reach a socket first, and warn about it.
    weakref.finalize(client, pool.disconnect, inuse_connections=False).atexit = False
    return client


def prove_redis_writable(client: redis.Redis) -> None:
    """Write a key that expires soon: a replica or a full Redis still answers reads.

    Raises:
        redis.RedisError: Redis is away or takes no writes; `refusal_of` tells them apart.
    """
    client.set(_PROOF_KEY, 1, px=_PROOF_MS)


def refusal_of(error: redis.RedisError) -> str:
    """Return why Redis takes no writes: `full`, `read-only`, or `away` for everything else.

    `away` includes a Redis that loads its data, lost its cluster, or rejects the password or the
    commands.
    """
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return "full"
    is_replica = isinstance(error, redis.exceptions.ReadOnlyError)
    return "read-only" if is_replica or str(error).startswith(_READ_ONLY) else "away"
