"""Lua scripts of Redis, called by many greenlets over one connection.

What every request calls goes this way: the calls of a moment travel together, and redis-py's own
path (a pool, a look at the socket, wrappers for retries and metrics) is gone once for all of them.
Everything else goes through the client.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import NoScriptError, ResponseError

from core.gathering import Gathering

#: Calls that travel together at most.
MOST_CALLS = 64


class Scripts:
    """The scripts of one process; nothing connects before the first call."""

    def __init__(self, client: redis.Redis) -> None:
        self._pool: Any = client.connection_pool
        self._connection: Any = None
        self._texts: dict[str, str] = {}
        timeout = self._pool.connection_kwargs.get("socket_timeout") or 5.0
        self._calls: Gathering[tuple[Any, ...], Any] = Gathering(
            self._make,
            most=MOST_CALLS,
            seconds=4 * timeout,
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

    def _make(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        if self._connection is None:
            self._connection = self._pool.make_connection()
        had_rested = self._connection.is_connected
        try:
            return self._exchange(calls)
        except redis.ConnectionError:
            if not had_rested:
                raise
        return self._exchange(calls)  # on a new connection: Redis is another one by now

    def _exchange(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        try:
            answers = self._send(calls)
            unknown = [i for i, one in enumerate(answers) if isinstance(one, NoScriptError)]
            if unknown:
                for sha in {calls[i][1] for i in unknown}:
                    self._send([("SCRIPT", "LOAD", self._texts[sha])])
                again = self._send([calls[i] for i in unknown])
                for i, answer in zip(unknown, again, strict=True):
                    answers[i] = answer
        except BaseException:
            self._connection.disconnect()  # it may stand in the middle of an answer
            raise
        return answers

    def _send(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        connection = self._connection
        connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        return [_read(connection) for _ in commands]


class Script:
    """One script, called as those of redis-py are."""

    def __init__(self, scripts: Scripts, text: str) -> None:
        self._scripts = scripts
        self.text = text
        self.sha = hashlib.sha1(text.encode()).hexdigest()

    def __call__(self, *, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return self._scripts.run(self.sha, keys, args)


def _read(connection: Any) -> Any:
    """Return the next answer; an error that is about one call only is its answer."""
    try:
        return connection.read_response()
    except ResponseError as error:
        return error
