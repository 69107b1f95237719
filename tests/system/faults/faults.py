"""Every fault: its name, what it does, and what ends it."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import psutil
import redis

from tests.system.faults.engine import Poison, StepFault
from tests.system.faults.instance import Instance
from tests.system.faults.link import LinkState
from tests.system.faults.traffic import Traffic

KILL_SECONDS = 10.0
#: Processes that are named one by one.
MOST_NAMED = 3
#: How far a clock steps, at most.
STEP_SECONDS = 7200.0


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault is done to, and the source of its choices."""

    instance: Instance
    traffic: Traffic
    draw: random.Random


#: Ends a fault.
Undo = Callable[[], None]
#: Does a fault to a scene; returns what it was done to, in words, and what ends it.
Do = Callable[[Scene], tuple[str, Undo]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that breaks.

    Attributes:
        seconds: how long it lasts, at least and at most; a fault that is over at once has none.
        loses_counts: what Redis knew may be lost.
        is_possible: some need rights or tools.
    """

    name: str
    do: Do
    seconds: tuple[float, float] = (0.0, 0.0)
    loses_counts: bool = False
    is_possible: Callable[[Instance], bool] = lambda instance: True


def _nothing() -> None:
    """There is nothing to end."""


# Processes.


def _kill_worker(scene: Scene) -> tuple[str, Undo]:
    return _send(scene.draw, scene.instance.workers(), signal.SIGKILL), _nothing


def _kill_api_process(scene: Scene) -> tuple[str, Undo]:
    return _send(scene.draw, scene.instance.api_processes()[1:], signal.SIGKILL), _nothing


def _kill_api(scene: Scene) -> tuple[str, Undo]:
    return _send(scene.draw, scene.instance.api_processes()[:1], signal.SIGKILL), _nothing


def _kill_launcher(scene: Scene) -> tuple[str, Undo]:
    launcher = scene.instance.launcher
    assert launcher is not None
    launcher.kill()
    launcher.wait(KILL_SECONDS)
    return "", _nothing


def _drain_worker(scene: Scene) -> tuple[str, Undo]:
    return _send(scene.draw, scene.instance.workers(), signal.SIGTERM), _nothing


def _stop_worker(scene: Scene) -> tuple[str, Undo]:
    return _freeze(_one(scene.draw, scene.instance.workers()))


def _stop_api_process(scene: Scene) -> tuple[str, Undo]:
    return _freeze(_one(scene.draw, scene.instance.api_processes()[1:]))


def _stop_launcher(scene: Scene) -> tuple[str, Undo]:
    launcher = scene.instance.launcher
    return _freeze([launcher.pid] if launcher is not None else [])


def _stop_all_workers(scene: Scene) -> tuple[str, Undo]:
    return _freeze(scene.instance.workers())


# Valkey.


def _restart_valkey(scene: Scene) -> tuple[str, Undo]:
    _thaw(scene, "valkey")
    scene.instance.valkey.stop()
    return "", scene.instance.start_servers


def _kill_valkey(scene: Scene) -> tuple[str, Undo]:
    _kill_server(scene, "valkey")
    return "", scene.instance.start_servers


def _lose_valkey(scene: Scene) -> tuple[str, Undo]:
    _kill_server(scene, "valkey")
    shutil.rmtree(scene.instance.valkey.directory, ignore_errors=True)
    return "", scene.instance.start_servers


def _empty_valkey(scene: Scene) -> tuple[str, Undo]:
    with suppress(redis.RedisError):
        scene.instance.redis.flushall()
    return "", _nothing


def _freeze_valkey(scene: Scene) -> tuple[str, Undo]:
    return _freeze(scene.instance.server_processes("valkey"))


# PostgreSQL.


def _restart_postgres(scene: Scene) -> tuple[str, Undo]:
    _thaw(scene, "postgres")
    scene.instance.postgres.stop()
    return "", scene.instance.start_servers


def _kill_postgres(scene: Scene) -> tuple[str, Undo]:
    _kill_server(scene, "postgres")
    return "", scene.instance.start_servers


def _kill_backend(scene: Scene) -> tuple[str, Undo]:
    """Kill a process that serves a connection: the server ends all others, and recovers."""
    return _send(scene.draw, scene.instance.server_processes("postgres")[1:], signal.SIGKILL), (
        _nothing
    )


def _end_connections(scene: Scene) -> tuple[str, Undo]:
    """Do what `pg_terminate_backend` does, without asking a server that may be frozen."""
    ended = 0
    for pid in scene.instance.server_processes("postgres")[1:]:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if "127.0.0.1(" in " ".join(process.cmdline()):  # it serves a connection
                process.terminate()
                ended += 1
    return f"{ended} connections", _nothing


def _freeze_postgres(scene: Scene) -> tuple[str, Undo]:
    return _freeze(scene.instance.server_processes("postgres"))


def _fill_disk(scene: Scene) -> tuple[str, Undo]:
    scene.instance.fill_disk(is_full=True)

    def undo() -> None:
        scene.instance.fill_disk(is_full=False)
        scene.instance.start_servers()

    return "", undo


# The network.


def _network(state: LinkState, server: str) -> Do:
    def do(scene: Scene) -> tuple[str, Undo]:
        links = {n: link for n, link in scene.instance.links.items() if n[1] == server}
        side = scene.draw.choice(["api", "worker", "both"])
        chosen = [link for (one, _), link in links.items() if side in (one, "both")]
        for link in chosen:
            link.set(state)

        def undo() -> None:
            for link in chosen:
                link.set(LinkState.UP)

        return f"for {side}", undo

    return do


def _cut(server: str) -> Do:
    def do(scene: Scene) -> tuple[str, Undo]:
        for (_, to), link in scene.instance.links.items():
            if to == server:
                link.cut()
        return "", _nothing

    return do


# Clocks.


def _step_one_clock(scene: Scene) -> tuple[str, Undo]:
    instance = scene.instance
    pids = [*instance.workers(), *instance.api_processes()[1:]]
    return _step(scene, scene.draw.choice(pids) if pids else None)


def _step_all_clocks(scene: Scene) -> tuple[str, Undo]:
    return _step(scene, None)


def _step(scene: Scene, pid: int | None) -> tuple[str, Undo]:
    seconds = scene.draw.uniform(-STEP_SECONDS, STEP_SECONDS)
    clock = scene.instance.clock
    clock.step(pid, seconds)
    return f"{'all' if pid is None else pid} by {seconds:.0f} s", lambda: clock.step(pid, 0)


# The engine.


def _step_fault(fault: StepFault) -> Do:
    def do(scene: Scene) -> tuple[str, Undo]:
        pids = _one(scene.draw, scene.instance.workers())
        for pid in pids:
            (scene.instance.orders / str(pid)).write_text(fault)
        return str(pids), _nothing

    return do


def _poison(poison: Poison) -> Do:
    def do(scene: Scene) -> tuple[str, Undo]:
        scene.traffic.send_poison(poison)
        return "", _nothing

    return do


def _one(draw: random.Random, pids: list[int]) -> list[int]:
    return [draw.choice(pids)] if pids else []


def _send(draw: random.Random, pids: list[int], number: signal.Signals) -> str:
    """Send a signal to one of the processes; return which."""
    chosen = _one(draw, pids)
    for pid in chosen:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    return str(chosen)


def _freeze(pids: list[int]) -> tuple[str, Undo]:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)

    def undo() -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    return str(pids) if len(pids) <= MOST_NAMED else f"{len(pids)} processes", undo


def _kill_server(scene: Scene, name: str) -> None:
    instance = scene.instance
    child = (instance.postgres if name == "postgres" else instance.valkey).child
    assert child is not None
    _thaw(scene, name)
    child.stop(signal.SIGKILL, KILL_SECONDS)


def _thaw(scene: Scene, name: str) -> None:
    """Let a server go on that another fault froze: a process that stays frozen does not see that
    its server ends, and keeps the next one from starting.
    """
    for pid in scene.instance.server_processes(name):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


SHORT, LONG = (0.2, 2.0), (0.5, 5.0)
FAULTS = (
    Fault("worker killed", _kill_worker),
    Fault("worker stopped in order", _drain_worker),
    Fault("worker frozen", _stop_worker, LONG),
    Fault("all workers frozen", _stop_all_workers, LONG),
    Fault("API process killed", _kill_api_process),
    Fault("API process frozen", _stop_api_process, SHORT),
    Fault("API killed", _kill_api),
    Fault("launcher killed", _kill_launcher),
    Fault("launcher frozen", _stop_launcher, LONG),
    Fault("Redis restarted", _restart_valkey, SHORT),
    Fault("Redis killed", _kill_valkey, SHORT),
    Fault("Redis killed, its data lost", _lose_valkey, SHORT, loses_counts=True),
    Fault("Redis emptied", _empty_valkey, loses_counts=True),
    Fault("Redis frozen", _freeze_valkey, LONG),
    Fault("Redis refuses connections", _network(LinkState.REFUSED, "valkey"), SHORT),
    Fault("Redis is slow", _network(LinkState.SLOW, "valkey"), LONG),
    Fault("Redis unreachable, silently", _network(LinkState.SILENT, "valkey"), LONG),
    Fault("connections to Redis cut", _cut("valkey")),
    Fault("PostgreSQL restarted", _restart_postgres, SHORT),
    Fault("PostgreSQL killed", _kill_postgres, SHORT),
    Fault("PostgreSQL's backend killed", _kill_backend),
    Fault("PostgreSQL ends all connections", _end_connections),
    Fault("PostgreSQL frozen", _freeze_postgres, LONG),
    Fault("PostgreSQL refuses connections", _network(LinkState.REFUSED, "postgres"), SHORT),
    Fault("PostgreSQL is slow", _network(LinkState.SLOW, "postgres"), LONG),
    Fault("PostgreSQL unreachable, silently", _network(LinkState.SILENT, "postgres"), LONG),
    Fault("connections to PostgreSQL cut", _cut("postgres")),
    Fault("PostgreSQL's disk full", _fill_disk, SHORT, is_possible=lambda one: one.disk_is_small),
    Fault("one clock steps", _step_one_clock, LONG, is_possible=lambda one: one.clock.can_step),
    Fault("all clocks step", _step_all_clocks, LONG, is_possible=lambda one: one.clock.can_step),
    Fault("engine step raises", _step_fault(StepFault.RAISE)),
    Fault("engine step hangs", _step_fault(StepFault.HANG)),
    Fault("engine runs out of memory", _step_fault(StepFault.MEMORY)),
    Fault("request kills its worker", _poison(Poison.KILL)),
    Fault("request makes its step raise", _poison(Poison.RAISE)),
)
