"""One connection to Redis for one caller at a time, and many commands in one exchange.

redis-py's own path (a pool, a look at the socket, wrappers for retries and metrics) costs several
times what a command takes. What runs for every request or job goes this way, everything else
through the client.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import redis
from redis.exceptions import NoScriptError, ResponseError

#: A command's name and its arguments.
Command = tuple[Any, ...]


class RedisConnection:
    """Opened as the connections of a client are; nothing connects before the first exchange."""

    def __init__(self, client: redis.Redis) -> None:
        self._pool: Any = client.connection_pool
        self._connection: Any = None

    @property
    def is_connected(self) -> bool:
        """Whether the last exchange left a connection; the server may have closed it since."""
        return self._connection is not None and self._connection.is_connected

    @property
    def timeout_seconds(self) -> float:
        """How long one answer is waited for."""
        return float(self._pool.connection_kwargs.get("socket_timeout") or 5.0)

    def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands together and return the answer to each; an error about one is its answer.

        Raises:
            redis.RedisError: Redis is away; which of them were carried out is not known.
        """
        connection = self._connection or self._open()
        try:
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            return [_read(connection) for _ in commands]
        except BaseException:
            connection.disconnect()  # it may stand in the middle of an answer
            raise

    def _open(self) -> Any:
        self._connection = self._pool.make_connection()
        # Not left to the collector, which may come to the socket first, and complain.
        weakref.finalize(self, self._connection.disconnect).atexit = False
        return self._connection

    def run_scripts(
        self, commands: Sequence[Command], load: Callable[[Sequence[Command]], None]
    ) -> list[Any]:
        """Do what `exchange` does, and again what called scripts that this Redis does not know.

        Nothing else is repeated: what one command fetched would be lost by asking again.

        Args:
            load: makes the scripts of the commands known.
        """
        answers = self.exchange(commands)
        unknown = [i for i, one in enumerate(answers) if isinstance(one, NoScriptError)]
        if unknown:
            repeated = [commands[i] for i in unknown]
            load(repeated)
            for i, answer in zip(unknown, self.exchange(repeated), strict=True):
                answers[i] = answer
        return answers


def _read(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error
