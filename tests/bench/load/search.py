"""Finds the highest rate of arrivals that a service takes within a bound."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.bench.load.arrivals import Load
from tests.bench.load.processes import CpuMeter, CpuUse, Processes
from tests.bench.load.tally import Tally

#: Before each measurement, at its rate: connections are opened, keys looked up. Not counted.
WARM_SECONDS = 2.0
#: From one rate to the next as long as all is well.
RAMP = 1.5
#: Of these a measurement has too few calls to say anything.
LEAST_RATE = 5.0
#: The answer is known to this part of it.
CLOSE_ENOUGH = 0.08


@dataclass(frozen=True, slots=True)
class Step:
    """One rate that was tried."""

    rate: float
    tally: Tally
    cpu: CpuUse
    is_within: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "rate": round(self.rate, 1),
            "is_within": self.is_within,
            "processors": self.cpu.to_json(),
            **self.tally.to_json(),
        }


Try = Callable[[float], Awaitable[Step]]


def trier(load: Load, processes: Processes, *, seconds: float, bound_ms: float) -> Try:
    """Return what tries a rate: within are those with p99 in the bound and all calls done."""

    async def try_rate(rate: float) -> Step:
        meter = CpuMeter(processes)
        tally = await load.run([(rate, WARM_SECONDS + seconds)])
        cpu = meter.read()
        counted = Tally([o for o in tally.outcomes if o.planned_at >= WARM_SECONDS])
        is_done = len(counted.done) == len(counted.outcomes)
        return Step(rate, counted, cpu, is_done and counted.added_ms(99) <= bound_ms)

    return try_rate


async def highest_rate(
    try_rate: Try, *, start: float, tell: Callable[[Step], None]
) -> tuple[float, list[Step]]:
    """Return the highest rate that was within the bound, 0 if none was, and all that were tried.

    A rate is too high when it fails twice: on a shared machine one stall is no verdict.
    """
    steps: list[Step] = []

    async def passes(rate: float) -> bool:
        for _ in range(2):
            steps.append(await try_rate(rate))
            tell(steps[-1])
            if steps[-1].is_within:
                return True
        return False

    good, bad = 0.0, start
    while await passes(bad):
        good, bad = bad, bad * RAMP
    while not good and bad / RAMP >= LEAST_RATE:
        if await passes(bad / RAMP):
            good = bad / RAMP
        else:
            bad /= RAMP
    while good and bad / good > 1 + CLOSE_ENOUGH:
        middle = (good * bad) ** 0.5
        if await passes(middle):
            good = middle
        else:
            bad = middle
    return good, steps
