"""How much a caller may do in a minute beside generating: look, write, upload.

One script decides, by the clock of Redis itself: exact over any number of API processes. A window
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
    """What is counted: its name in Redis, the code of its refusal and what that says."""

    LOOKS = ("polls", "rate_limit_exceeded", "the limit of {limit} looks at jobs a minute")
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
        """Take the client, what its process runs scripts with, and for tests another clock."""
        text = files("core.limits").joinpath("minute_counts.lua").read_text()
        self._script = (scripts or Scripts(client)).register(text)
        self._clock = clock

    def charge(
        self, caller_id: UUID, counted: CountedAction, *, limit: int, amount: int = 1
    ) -> None:
        """Count what a caller does, `limit` of it a minute.

        The first of a minute passes whatever its amount: what is larger than the limit can be done
        once a minute.

        Raises:
            RateLimited: the minute has no room for it; nothing was counted.
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
