"""Sends many commands over one connection to Redis in one exchange, for one caller at a time.

redis-py's own path (a pool, a check of the socket, wrappers for retries and metrics) costs several
times as much as a command. Commands of every request or job use this path; all others use the
client.
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
    """A connection with the options of a client; it connects with the first exchange."""

    def __init__(self, client: redis.Redis) -> None:
        self._pool: Any = client.connection_pool
        self._connection: Any = None

    @property
    def is_connected(self) -> bool:
        """Whether the last exchange left a connection; the server may have closed it since."""
        return self._connection is not None and self._connection.is_connected

    @property
    def timeout_seconds(self) -> float:
        """The longest wait for one reply."""
        return float(self._pool.connection_kwargs.get("socket_timeout") or 5.0)

    def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands together and return their replies; the error of a command is its reply.

        Raises:
            redis.RedisError: Redis is away; some commands may have been executed.
        """
        connection = self._connection or self._open()
        try:
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            return [_read(connection) for _ in commands]
        except BaseException:
            connection.disconnect()  # it may be in the middle of a reply
            raise

    def _open(self) -> Any:
        self._connection = self._pool.make_connection()
        # The garbage collector might reach the socket first, and warn about it.
        weakref.finalize(self, self._connection.disconnect).atexit = False
        return self._connection

    def run_scripts(
        self, commands: Sequence[Command], load: Callable[[Sequence[Command]], None]
    ) -> list[Any]:
        """Exchange commands, and repeat those whose scripts this Redis does not know.

        Other commands are never repeated: a repeated fetch would lose what the first one returned.

        Args:
            load: loads the scripts of the commands.
        """
        replies = self.exchange(commands)
        unknown = [i for i, one in enumerate(replies) if isinstance(one, NoScriptError)]
        if unknown:
            repeated = [commands[i] for i in unknown]
            load(repeated)
            for i, reply in zip(unknown, self.exchange(repeated), strict=True):
                replies[i] = reply
        return replies


def _read(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error
