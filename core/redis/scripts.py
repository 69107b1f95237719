"""Runs Lua scripts of Redis for many greenlets over one connection.

Scripts of every request run this way: concurrent calls are coalesced into one exchange.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import redis

from core.concurrency.coalescer import Coalescer
from core.redis.connection import Command, RedisConnection

#: The most calls of one exchange.
MOST_CALLS = 64


class Scripts:
    """The scripts of one process; it connects with the first call."""

    def __init__(self, client: redis.Redis) -> None:
        self._connection = RedisConnection(client)
        self._texts: dict[str, str] = {}
        self._calls: Coalescer[Command, Any] = Coalescer(
            self._execute,
            most=MOST_CALLS,
            seconds=4 * self._connection.timeout_seconds,
            late=lambda: redis.TimeoutError("Redis was too busy"),
        )

    def register(self, text: str) -> Script:
        """Return a callable script; Redis loads it at the first call."""
        script = Script(self, text)
        self._texts[script.sha] = text
        return script

    def run(self, sha: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a registered script and return its result.

        A call is repeated if its connection broke before the reply. So every script must be
        idempotent.

        Raises:
            redis.RedisError: Redis is away; the script may have run.
        """
        return self._calls.call(("EVALSHA", sha, len(keys), *keys, *args))

    def _execute(self, calls: Sequence[Command]) -> list[Any]:
        was_connected = self._connection.is_connected
        try:
            return self._exchange(calls)
        except redis.ConnectionError:
            if not was_connected:
                raise
        return self._exchange(calls)  # on a new connection: Redis may have restarted

    def _exchange(self, calls: Sequence[Command]) -> list[Any]:
        return self._connection.run_scripts(calls, self._load)

    def _load(self, calls: Sequence[Command]) -> None:
        for sha in {call[1] for call in calls}:
            self._connection.exchange([("SCRIPT", "LOAD", self._texts[sha])])


class Script:
    """One script, with the interface of redis-py's scripts."""

    def __init__(self, scripts: Scripts, text: str) -> None:
        self._scripts = scripts
        self.text = text
        self.sha = hashlib.sha1(text.encode()).hexdigest()  # noqa: S324 - the name of a script in Redis

    def __call__(self, *, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return self._scripts.run(self.sha, keys, args)
