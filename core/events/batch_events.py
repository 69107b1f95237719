"""What API processes tell the feeders: that there is a new batch, or one that shall end.

Redis channels:
    batch-news   an empty message; every feeder looks at the rows then

It may be lost: a feeder looks every second anyway.
"""

from __future__ import annotations

from collections.abc import Callable

import redis

from core.redis.subscription import Subscription

CHANNEL = "batch-news"


def publish_batch_change(client: redis.Redis) -> None:
    """Let the feeders look now. Call it after the commit.

    Raises:
        redis.RedisError: Redis is away.
    """
    client.publish(CHANNEL, "")


def subscribe_to_batches(client: redis.Redis, look: Callable[[], None]) -> Subscription:
    """Return the subscription that calls `look` with each message, once it is listened to."""
    return Subscription(client, CHANNEL, on_message=lambda _: look(), on_connected=look)
