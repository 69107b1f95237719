"""All faults, with their names and lengths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.system.faults.installation.breakable import BreakableInstallation
from tests.system.faults.installation.engine import Poison, StepFault
from tests.system.faults.installation.link import LinkState
from tests.system.faults.kinds import processes, servers
from tests.system.faults.kinds.scene import Do

SHORT, LONG = (0.2, 2.0), (0.5, 5.0)


def _has_small_disk(installation: BreakableInstallation) -> bool:
    return installation.servers.disk.can_be_filled


def _has_clocks(installation: BreakableInstallation) -> bool:
    return installation.clocks.can_step


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that breaks.

    Attributes:
        seconds: the least and the greatest length; zero for a fault that is over at once.
        loses_counts: whether Redis may lose its counts.
        is_possible: whether this machine has the rights and tools for it.
    """

    name: str
    do: Do
    seconds: tuple[float, float] = (0.0, 0.0)
    loses_counts: bool = False
    is_possible: Callable[[BreakableInstallation], bool] = lambda installation: True


FAULTS = (
    Fault("worker killed", processes.kill_worker),
    Fault("worker stopped in order", processes.drain_worker),
    Fault("worker frozen", processes.freeze_worker, LONG),
    Fault("all workers frozen", processes.freeze_all_workers, LONG),
    Fault("API process killed", processes.kill_api_process),
    Fault("API process frozen", processes.freeze_api_process, SHORT),
    Fault("API killed", processes.kill_api),
    Fault("launcher killed", processes.kill_launcher),
    Fault("launcher frozen", processes.freeze_launcher, LONG),
    Fault("Redis restarted", servers.restart("valkey"), SHORT),
    Fault("Redis killed", servers.kill("valkey"), SHORT),
    Fault("Redis killed, its data lost", servers.lose_valkey, SHORT, loses_counts=True),
    Fault("Redis emptied", servers.empty_valkey, loses_counts=True),
    Fault("Redis frozen", servers.freeze_server("valkey"), LONG),
    Fault("Redis refuses connections", servers.disturb(LinkState.REFUSED, "valkey"), SHORT),
    Fault("Redis is slow", servers.disturb(LinkState.SLOW, "valkey"), LONG),
    Fault("Redis unreachable, silently", servers.disturb(LinkState.SILENT, "valkey"), LONG),
    Fault("connections to Redis cut", servers.cut("valkey")),
    Fault("PostgreSQL restarted", servers.restart("postgres"), SHORT),
    Fault("PostgreSQL killed", servers.kill("postgres"), SHORT),
    Fault("PostgreSQL's backend killed", servers.kill_backend),
    Fault("PostgreSQL ends all connections", servers.end_connections),
    Fault("PostgreSQL frozen", servers.freeze_server("postgres"), LONG),
    Fault("PostgreSQL refuses connections", servers.disturb(LinkState.REFUSED, "postgres"), SHORT),
    Fault("PostgreSQL is slow", servers.disturb(LinkState.SLOW, "postgres"), LONG),
    Fault("PostgreSQL unreachable, silently", servers.disturb(LinkState.SILENT, "postgres"), LONG),
    Fault("connections to PostgreSQL cut", servers.cut("postgres")),
    Fault("PostgreSQL's disk full", servers.fill_disk, SHORT, is_possible=_has_small_disk),
    Fault("one clock steps", processes.step_one_clock, LONG, is_possible=_has_clocks),
    Fault("all clocks step", processes.step_all_clocks, LONG, is_possible=_has_clocks),
    Fault("engine step raises", processes.break_step(StepFault.RAISE)),
    Fault("engine step hangs", processes.break_step(StepFault.HANG)),
    Fault("engine runs out of memory", processes.break_step(StepFault.MEMORY)),
    Fault("request kills its worker", processes.send_poison(Poison.KILL)),
    Fault("request makes its step raise", processes.send_poison(Poison.RAISE)),
)
