"""Finds the highest rate of arrivals at which a service stays within a bound."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.bench.load.arrivals import Load
from tests.bench.load.processes import CpuMeter, CpuUse, Processes
from tests.bench.load.tally import Tally

#: Calls at the start of each measurement do not count: they open connections and fill caches.
WARM_SECONDS = 2.0
#: The ratio of one rate to the one before, until a rate fails.
RAMP = 1.5
#: Below this rate a measurement has too few calls.
LEAST_RATE = 5.0
#: The search ends when the bounds of the rate differ by this share.
CLOSE_ENOUGH = 0.08


@dataclass(frozen=True, slots=True)
class Step:
    """The measurement of one rate."""

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
    """Return what measures a rate, which is within if p99 is in the bound and no call fails."""

    async def try_rate(rate: float) -> Step:
        meter = CpuMeter(processes)
        tally = await load.run([(rate, WARM_SECONDS + seconds)])
        cpu = meter.read()
        counted = Tally([o for o in tally.outcomes if o.planned_at >= WARM_SECONDS])
        is_done = len(counted.done) == len(counted.outcomes)
        return Step(rate, counted, cpu, is_done and counted.added_ms(99) <= bound_ms)

    return try_rate


async def highest_rate(
    try_rate: Try, *, start: float, report: Callable[[Step], None]
) -> tuple[float, list[Step]]:
    """Return the highest rate within the bound, 0 if there is none, and all measurements.

    A rate is too high when it fails twice: a shared machine may stall once.
    """
    steps: list[Step] = []

    async def passes(rate: float) -> bool:
        for _ in range(2):
            steps.append(await try_rate(rate))
            report(steps[-1])
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
