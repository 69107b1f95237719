"""The one way to open a Redis client: bounded pool, bounded waits."""

from __future__ import annotations

import weakref

import redis

from core.settings import Settings

#: Connections that one process may hold; a caller beyond that waits for a free one.
MAX_CONNECTIONS = 64


def open_redis(settings: Settings, *, max_connections: int = MAX_CONNECTIONS) -> redis.Redis:
    """Return a client; nothing is sent before its first call.

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
    client = redis.Redis(connection_pool=pool)
    # Not left to the collector, which may come to a socket first, and complain.
    weakref.finalize(client, pool.disconnect, inuse_connections=False).atexit = False
    return client
