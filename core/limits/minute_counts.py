"""Limits the actions of a caller besides generating: polls, writes and uploads per minute.

One script decides by the clock of Redis, so it is exact over any number of API processes. A window
begins with each minute.

Redis keys:
    limit:{id}:{what}   hash: minute, count; lives two minutes
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from importlib.resources import files
from uuid import UUID

import redis

from core.errors import RateLimited
from core.limits.state import MINUTE_SECONDS
from core.redis.scripts import Scripts


class CountedAction(Enum):
    """An action that is counted: its name in Redis, and the code and text of its refusal."""

    POLLS = ("polls", "rate_limit_exceeded", "the limit of {limit} polls a minute")
    WRITES = ("writes", "too_many_writes", "the limit of {limit} requests a minute that change")
    UPLOAD_BYTES = ("bytes", "too_many_upload_bytes", "the limit of {limit} bytes a minute")

    def __init__(self, key: str, code: str, text: str) -> None:
        self.key = key
        self.code = code
        self.text = text


class MinuteLimiter:
    def __init__(
        self,
        client: redis.Redis,
        *,
        scripts: Scripts | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Take the client, the scripts of its process, and a clock for tests."""
        text = files("core.limits").joinpath("minute_counts.lua").read_text()
        self._script = (scripts or Scripts(client)).register(text)
        self._clock = clock

    def charge(
        self, caller_id: UUID, counted: CountedAction, *, limit: int, amount: int = 1
    ) -> None:
        """Count an action of a caller, at most `limit` per minute.

        The first action of a minute always passes, so that an action larger than the limit is
        possible once a minute.

        Raises:
            RateLimited: the limit of this minute is reached; nothing was counted.
            redis.RedisError: Redis is away.
        """
        now = "" if self._clock is None else round(self._clock() * 1000)
        verdict, milliseconds = self._script(
            keys=[f"limit:{caller_id.hex}:{counted.key}"], args=[now, limit, amount]
        )
        if verdict == b"refused":
            in_minute = milliseconds / 1000 % MINUTE_SECONDS
            raise RateLimited(
                f"{counted.text.format(limit=limit)} is reached",
                code=counted.code,
                retry_after_seconds=MINUTE_SECONDS - in_minute,
            )
