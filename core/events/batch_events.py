"""Events from API processes to the dispatchers: a batch was made, or is to be cancelled.

Redis channels:
    batch-news   an empty message; every dispatcher then reads the rows

A message may be lost: a dispatcher reads the rows every second anyway.
"""

from __future__ import annotations

from collections.abc import Callable

import redis

from core.redis.subscription import Subscription

CHANNEL = "batch-news"


def publish_batch_change(client: redis.Redis) -> None:
    """Wake the dispatchers. Call it after the COMMIT.

    Raises:
        redis.RedisError: Redis is away.
    """
    client.publish(CHANNEL, "")


def subscribe_to_batches(client: redis.Redis, on_change: Callable[[], None]) -> Subscription:
    """Return a subscription that calls `on_change` with each message and each connection."""
    return Subscription(client, CHANNEL, on_message=lambda _: on_change(), on_connected=on_change)
