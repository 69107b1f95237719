"""Faults of PostgreSQL, of Valkey and of the links to them."""

from __future__ import annotations

import shutil
import signal
from contextlib import suppress

import psutil
import redis

from cli.servers.postgres import Postgres
from cli.servers.valkey import Valkey
from tests.system.faults.installation.link import LinkState
from tests.system.faults.installation.servers import SIDES, send_signal
from tests.system.faults.kinds.scene import Do, Scene, Undo, freeze, nothing

KILL_SECONDS = 10.0


def restart(server: str) -> Do:
    def do(scene: Scene) -> tuple[str, Undo]:
        _thaw(scene, server)
        _server(scene, server).stop()
        return "", scene.servers.restart_ended

    return do


def kill(server: str) -> Do:
    def do(scene: Scene) -> tuple[str, Undo]:
        _thaw(scene, server)
        child = _server(scene, server).child
        assert child is not None
        child.stop(signal.SIGKILL, KILL_SECONDS)
        return "", scene.servers.restart_ended

    return do


def freeze_server(server: str) -> Do:
    return lambda scene: freeze(scene.servers.processes(server))


def lose_valkey(scene: Scene) -> tuple[str, Undo]:
    """Kill Valkey and delete its data."""
    killed = kill("valkey")(scene)
    shutil.rmtree(scene.servers.valkey.directory, ignore_errors=True)
    return killed


def empty_valkey(scene: Scene) -> tuple[str, Undo]:
    with suppress(redis.RedisError):
        scene.installation.redis.flushall()
    return "", nothing


def kill_backend(scene: Scene) -> tuple[str, Undo]:
    """Kill the process of one connection: PostgreSQL ends all others, and recovers."""
    return scene.send(scene.servers.processes("postgres")[1:], signal.SIGKILL), nothing


def end_connections(scene: Scene) -> tuple[str, Undo]:
    """End all connections as `pg_terminate_backend` does, even of a frozen PostgreSQL."""
    ended = 0
    for pid in scene.servers.processes("postgres")[1:]:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if "127.0.0.1(" in " ".join(process.cmdline()):  # it serves a connection
                process.terminate()
                ended += 1
    return f"{ended} connections", nothing


def fill_disk(scene: Scene) -> tuple[str, Undo]:
    scene.servers.disk.fill()

    def undo() -> None:
        scene.servers.disk.free()
        scene.servers.restart_ended()

    return "", undo


def disturb(state: LinkState, server: str) -> Do:
    """Return a fault of the links to a server, from one side or from both."""

    def do(scene: Scene) -> tuple[str, Undo]:
        side = scene.draw.choice([*SIDES, "both"])
        chosen = [
            link
            for (one, to), link in scene.servers.links.items()
            if to == server and side in (one, "both")
        ]
        for link in chosen:
            link.set(state)

        def undo() -> None:
            for link in chosen:
                link.set(LinkState.UP)

        return f"for {side}", undo

    return do


def cut(server: str) -> Do:
    def do(scene: Scene) -> tuple[str, Undo]:
        for (_, to), link in scene.servers.links.items():
            if to == server:
                link.cut()
        return "", nothing

    return do


def _server(scene: Scene, server: str) -> Postgres | Valkey:
    return scene.servers.postgres if server == "postgres" else scene.servers.valkey


def _thaw(scene: Scene, server: str) -> None:
    """Continue a server that another fault froze.

    A frozen child of an ended server keeps the next one from starting.
    """
    for pid in scene.servers.processes(server):
        send_signal(pid, signal.SIGCONT)
