"""The scene of a fault, and what all faults do to processes."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from dataclasses import dataclass

from tests.system.faults.installation.breakable import BreakableInstallation
from tests.system.faults.installation.servers import Servers, send_signal
from tests.system.faults.traffic.clients import FaultTraffic

#: Processes that are named one by one.
MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Scene:
    """The installation and the traffic that a fault meets, and the source of its choices."""

    installation: BreakableInstallation
    traffic: FaultTraffic
    draw: random.Random

    @property
    def servers(self) -> Servers:
        return self.installation.servers

    def choose(self, pids: list[int]) -> list[int]:
        """Return one of the processes, if there is any."""
        return [self.draw.choice(pids)] if pids else []

    def send(self, pids: list[int], number: signal.Signals) -> str:
        """Send a signal to one of the processes and name it."""
        chosen = self.choose(pids)
        for pid in chosen:
            send_signal(pid, number)
        return str(chosen)


#: Ends a fault.
Undo = Callable[[], None]
#: Does a fault; returns its target, in words, and the function that ends it.
Do = Callable[[Scene], tuple[str, Undo]]


def nothing() -> None:
    """End a fault that is over at once."""


def freeze(pids: list[int]) -> tuple[str, Undo]:
    """Stop processes until the fault ends."""
    for pid in pids:
        send_signal(pid, signal.SIGSTOP)

    def undo() -> None:
        for pid in pids:
            send_signal(pid, signal.SIGCONT)

    return str(pids) if len(pids) <= MOST_NAMED else f"{len(pids)} processes", undo
