"""The echo engine with faults that tests order."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from enum import IntEnum, StrEnum
from pathlib import Path

from worker.engine.echo import EchoEngine
from worker.engine.protocol import EngineStats, FinishReason, StepEvent

#: Tokens that a poisoned request gets before its fault.
HARMLESS_TOKENS = 3


class Poison(IntEnum):
    """The fault of a request's step, named by the request's `seed`."""

    #: Its step ends the process, as a fault of the device does.
    KILL = 666_001
    #: Its step raises: the request fails alone, and the engine's loop restarts.
    RAISE = 666_002


class StepFault(StrEnum):
    """The fault of the next step, named by a file of the process's id."""

    RAISE = "raise"
    HANG = "hang"
    #: The kernel kills a process that takes too much memory.
    MEMORY = "memory"


class BreakableEngine(EchoEngine):
    """Generates as the echo engine does, until a fault is ordered.

    Args:
        orders: a directory; the file named by a process's id holds the fault of its next step.
        stall_seconds: a step longer than this counts as hung.
    """

    def __init__(
        self, *, orders: Path, stall_seconds: float, tokens_per_second: float, context_length: int
    ) -> None:
        super().__init__(tokens_per_second=tokens_per_second, context_length=context_length)
        self._order = orders / str(os.getpid())
        self._stall_seconds = stall_seconds
        self._hung = threading.Event()
        self._restarts = 0

    @property
    def is_healthy(self) -> bool:
        return super().is_healthy and not self._hung.is_set()

    def stats(self) -> EngineStats:
        return replace(super().stats(), restarts=self._restarts)

    def _step(self) -> list[StepEvent]:
        poisoned = self._poisoned()
        if self._running and self._order.exists():
            self._break(StepFault(self._order.read_text()))
        return [*poisoned, *super()._step()]

    def _poisoned(self) -> list[StepEvent]:
        """Do the faults of poisoned requests; return the ends of those that fail alone."""
        events = []
        for key, echo in list(self._running.items()):
            seed = echo.handle.request.sampling.seed
            if echo.generated < HARMLESS_TOKENS:
                continue
            if seed == Poison.KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            elif seed == Poison.RAISE:
                events.append(self._fail(key))
        return events

    def _break(self, fault: StepFault) -> None:
        self._order.unlink()
        if fault is StepFault.MEMORY:
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault is StepFault.HANG:
            threading.Event().wait(self._stall_seconds)
            self._hung.set()
            threading.Event().wait()  # a hung step does not come back
        else:
            self._ends.append(self._fail(next(iter(self._running))))

    def _fail(self, key: tuple[str, int]) -> StepEvent:
        echo = self._running.pop(key)
        echo.handle.ended.add(echo.index)
        self._restarts += 1
        reason = FinishReason.ERROR
        return StepEvent(echo.handle, echo.index, finish_reason=reason, error="a step failed")
