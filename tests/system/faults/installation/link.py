"""A network link that can be cut, slowed and refused: a TCP proxy in this process."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import Coroutine
from contextlib import suppress
from enum import Enum, auto
from typing import Any

CHUNK_BYTES = 65536
CALL_SECONDS = 10.0
#: How long a chunk waits on a slow link, at most.
SLOW_SECONDS = 0.15


class Network:
    """The event loop of all links, on its own thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="network", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the loop and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(CALL_SECONDS)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(CALL_SECONDS)
        self.loop.close()


class LinkState(Enum):
    UP = auto()
    #: Connections are made, and data arrives late.
    SLOW = auto()
    #: Data is lost without an error, as when a cable is pulled.
    SILENT = auto()
    #: New connections are refused; existing ones were cut.
    REFUSED = auto()


class Link:
    """Forwards connections to `port` to another port of this machine."""

    def __init__(self, network: Network, *, to_port: int) -> None:
        self._network = network
        self._to_port = to_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._draw = random.Random(0)
        self._state = LinkState.UP
        self.port = 0
        network.call(self._listen())

    @property
    def state(self) -> LinkState:
        return self._state

    def set(self, state: LinkState) -> None:
        """Change the state of the link."""
        self._network.call(self._set(state))

    def cut(self) -> None:
        """End all connections; new ones are accepted."""
        self._network.call(self._cut())

    def close(self) -> None:
        self._network.call(self._close())

    async def _set(self, state: LinkState) -> None:
        was_silent, self._state = self._state is LinkState.SILENT, state
        if state is LinkState.REFUSED:
            await self._stop_listening()
            await self._cut()
        elif self._server is None:
            await self._listen()
        if was_silent and state is LinkState.UP:
            await self._cut()  # the lost data makes the connections useless

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port or None)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _cut(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    async def _close(self) -> None:
        await self._stop_listening()
        await self._cut()
        for task in list(self._tasks):
            task.cancel()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        except OSError:
            _reset(writer)
            return
        self._writers |= {writer, far_writer}
        ways = [(reader, far_writer), (far_reader, writer)]
        tasks = [asyncio.ensure_future(self._pump(*way)) for way in ways]
        self._tasks.update(tasks)
        try:
            await asyncio.wait(tasks)
        finally:
            self._tasks.difference_update(tasks)
            self._writers -= {writer, far_writer}
            for one in (writer, far_writer):
                with suppress(OSError):
                    one.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(CHUNK_BYTES):
                if self._state is LinkState.SILENT:
                    continue
                if self._state is LinkState.SLOW:
                    await asyncio.sleep(self._draw.uniform(0, SLOW_SECONDS))
                writer.write(data)
                await writer.drain()
        with suppress(OSError):
            if not writer.is_closing():
                writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Reset a connection, as a machine that has lost it does."""
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError):
            sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
            )
    writer.transport.abort()
