"""Lua scripts of Redis, called by many greenlets over one connection.

What every request calls goes this way: the calls of a moment travel together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import redis

from core.concurrency.coalescer import Coalescer
from core.redis.connection import Command, RedisConnection

#: Calls that travel together at most.
MOST_CALLS = 64


class Scripts:
    """The scripts of one process; nothing connects before the first call."""

    def __init__(self, client: redis.Redis) -> None:
        self._link = RedisConnection(client)
        self._texts: dict[str, str] = {}
        self._calls: Coalescer[Command, Any] = Coalescer(
            self._make,
            most=MOST_CALLS,
            seconds=4 * self._link.timeout_seconds,
            late=lambda: redis.TimeoutError("Redis was too busy"),
        )

    def register(self, text: str) -> Script:
        """Return a script that can be called; Redis learns of it when it first is."""
        script = Script(self, text)
        self._texts[script.sha] = text
        return script

    def run(self, sha: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Return what a registered script returns.

        A call whose answer was lost with its connection is made again: whatever is called here
        must be harmless twice.

        Raises:
            redis.RedisError: Redis is away; whether it ran is not known.
        """
        return self._calls.call(("EVALSHA", sha, len(keys), *keys, *args))

    def _make(self, calls: Sequence[Command]) -> list[Any]:
        had_rested = self._link.is_connected
        try:
            return self._exchange(calls)
        except redis.ConnectionError:
            if not had_rested:
                raise
        return self._exchange(calls)  # on a new connection: Redis is another one by now

    def _exchange(self, calls: Sequence[Command]) -> list[Any]:
        return self._link.run_scripts(calls, self._load)

    def _load(self, calls: Sequence[Command]) -> None:
        for sha in {call[1] for call in calls}:
            self._link.exchange([("SCRIPT", "LOAD", self._texts[sha])])


class Script:
    """One script, called as those of redis-py are."""

    def __init__(self, scripts: Scripts, text: str) -> None:
        self._scripts = scripts
        self.text = text
        self.sha = hashlib.sha1(text.encode()).hexdigest()  # noqa: S324 - the name of a script in Redis

    def __call__(self, *, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return self._scripts.run(self.sha, keys, args)
