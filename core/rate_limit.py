"""Requests a minute of each API key: fixed windows that begin with each minute, exact over any
number of API processes because one script in Redis decides and charges.

Redis keys:
    limit:{key id}:{minute}   requests accepted in that minute since the epoch; lives two minutes

When Redis is away a limit cannot be checked, and the request is refused (`redis.RedisError`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from uuid import UUID

import redis

from core.errors import RateLimited

WINDOW_SECONDS = 60
COUNTER_TTL_SECONDS = 2 * WINDOW_SECONDS


@dataclass(frozen=True, slots=True)
class LimitState:
    """A key's requests in this minute; `reset_seconds` until the next one begins."""

    limit: int
    remaining: int
    reset_seconds: float

    @property
    def headers(self) -> dict[str, str]:
        return {
            "x-ratelimit-limit-requests": str(self.limit),
            "x-ratelimit-remaining-requests": str(self.remaining),
            "x-ratelimit-reset-requests": f"{max(1, -(-self.reset_seconds // 1)):.0f}s",
        }


class RateLimiter:
    def __init__(self, client: redis.Redis, *, clock: Callable[[], float] = time.time) -> None:
        script = files("core").joinpath("rate_limit.lua").read_text()
        self._charge = client.register_script(script)
        self._clock = clock

    def charge(self, key_id: UUID, *, limit: int) -> LimitState:
        """Charge one request.

        Raises:
            RateLimited: the minute is full; nothing was charged.
            redis.RedisError: Redis is away; nothing may be assumed.
        """
        now = self._clock()
        reset_seconds = WINDOW_SECONDS - now % WINDOW_SECONDS
        window = f"limit:{key_id.hex}:{int(now // WINDOW_SECONDS)}"
        accepted, used = self._charge(keys=[window], args=[limit, COUNTER_TTL_SECONDS])
        state = LimitState(limit, max(0, limit - used), reset_seconds)
        if not accepted:
            raise RateLimited(
                f"the limit of {limit} requests a minute is reached",
                retry_after_seconds=reset_seconds,
                headers=state.headers,
            )
        return state
