"""Limits the writes of a user in a minute: requests that change something, and bytes of files.

Generations are not counted here: each is charged to the limits of its key. Requests that end a key
or a session are not counted either.
"""

from __future__ import annotations

import logging
from uuid import UUID

import redis
from flask import g, request

from api.runtime.load_shedding import BLUEPRINTS as GENERATING
from api.services import Services, services
from core.errors import RateLimited
from core.limits.minute_counts import CountedAction

_log = logging.getLogger(__name__)

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
#: Requests that revoke access. They are never refused: a thief of a key could use up its owner's
#: minute. Each needs an earlier key or session; the password pool bounds changes of passwords.
ENDING = frozenset({"auth.change_password", "auth.logout", "keys.delete"})


def is_write(method: str, endpoint: str | None) -> bool:
    """Return whether a request is counted.

    It is counted if it changes something, no limit of a key counts it, and it does not revoke
    access.
    """
    is_reading = method.upper() in _READING
    is_generating = (endpoint or "").partition(".")[0] in GENERATING
    return not is_reading and not is_generating and endpoint not in ENDING


def count_write(user_id: UUID) -> None:
    """Count the current request once, if it writes.

    If Redis is away, nothing is counted: an admin must still be able to switch off a key.

    Raises:
        RateLimited: `too_many_writes`, the limit of the minute is reached.
    """
    if "is_counted" in g or not is_write(request.method, request.endpoint):
        return
    g.is_counted = True
    limit = services().settings.write_rate_limit
    try:
        services().limits.minute_counts.charge(user_id, CountedAction.WRITES, limit=limit)
    except redis.RedisError:
        _log.warning("a write request is not counted: Redis is away")


def count_bytes(services: Services, user_id: UUID, size: int) -> None:
    """Count bytes of a file that a user uploads.

    Raises:
        RateLimited: `too_many_upload_bytes`, the limit of the minute is reached.
        redis.RedisError: Redis is away.
    """
    limit = services.settings.upload_bytes_per_minute
    try:
        services.limits.minute_counts.charge(
            user_id, CountedAction.UPLOAD_BYTES, limit=limit, amount=size
        )
    except RateLimited as refused:
        # The server must not read the rest of the file as the next request.
        refused.headers["Connection"] = "close"
        raise
