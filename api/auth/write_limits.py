"""How much a user may write in a minute: requests that change something, and bytes of files.

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
#: Requests that take access away. They are never refused: a thief of a key could fill its owner's
#: minute. Each needs a key or session made before; a new password waits for its turn of hashing.
ENDING = frozenset({"auth.change_password", "auth.logout", "keys.delete"})


def is_write(method: str, endpoint: str | None) -> bool:
    """Say whether a request is counted: it changes something, no limit of a key counts it, and it
    does not take access away.
    """
    is_reading = method.upper() in _READING
    is_generating = (endpoint or "").partition(".")[0] in GENERATING
    return not is_reading and not is_generating and endpoint not in ENDING


def count_write(user_id: UUID) -> None:
    """Count the present request when it is known whose it is, once, if it writes.

    A Redis that is away counts nothing: it must not keep an admin from switching off a key.

    Raises:
        RateLimited: `too_many_writes`, the user's minute is full.
    """
    if "is_counted" in g or not is_write(request.method, request.endpoint):
        return
    g.is_counted = True
    limit = services().settings.write_rate_limit
    try:
        services().limits.minute_counts.charge(user_id, CountedAction.WRITES, limit=limit)
    except redis.RedisError:
        _log.warning("a request that writes is not counted: Redis is away")


def count_bytes(services: Services, user_id: UUID, size: int) -> None:
    """Count bytes of a file that a user sends.

    Raises:
        RateLimited: `too_many_upload_bytes`, the user's minute is full.
        redis.RedisError: Redis is away.
    """
    limit = services.settings.upload_bytes_per_minute
    try:
        services.limits.minute_counts.charge(
            user_id, CountedAction.UPLOAD_BYTES, limit=limit, amount=size
        )
    except RateLimited as refused:
        # What still comes of the file must not be taken for a next request.
        refused.headers["Connection"] = "close"
        raise
