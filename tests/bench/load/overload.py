"""Overload: twice the highest rate, and the recovery from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.bench.load.arrivals import Load
from tests.bench.load.processes import CpuMeter, CpuUse, Processes
from tests.bench.load.tally import Tally, percentile

#: The service has recovered with the first of this many seconds in a row within the bound.
WELL_SECONDS = 3
RECOVERY_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Overload:
    """The outcome of an overload.

    Attributes:
        recovered_after: seconds from the end of the overload until p99 was within the bound; None
            if it never was.
    """

    rate: float
    seconds: float
    calm_rate: float
    during: Tally
    after: Tally
    recovered_after: int | None
    cpu: CpuUse

    def to_json(self) -> dict[str, Any]:
        by_second = [
            {
                "second": second,
                "calls": len(tally.outcomes),
                "shed": len(tally.shed),
                "p99_ms": round(tally.added_ms(99), 1),
            }
            for second, tally in _seconds(self.after, int(self.seconds))
        ]
        return {
            "rate": round(self.rate, 1),
            "seconds": self.seconds,
            "processors": self.cpu.to_json(),
            "during": self.during.to_json(),
            "shed_ms_p99": round(percentile([o.added_ms for o in self.during.shed], 99), 1),
            "calm_rate": round(self.calm_rate, 1),
            "after": self.after.to_json(),
            "after_by_second": by_second,
            "recovered_after_s": self.recovered_after,
        }


async def overload(
    load: Load,
    processes: Processes,
    *,
    rate: float,
    calm_rate: float,
    seconds: float,
    bound_ms: float,
) -> Overload:
    """Send `rate` for `seconds`, then `calm_rate` while the service recovers."""
    meter = CpuMeter(processes)
    tally = await load.run([(rate, seconds), (calm_rate, RECOVERY_SECONDS)])
    during = Tally([o for o in tally.outcomes if o.planned_at < seconds])
    after = Tally([o for o in tally.outcomes if o.planned_at >= seconds])
    recovered = _recovered_after(after, int(seconds), bound_ms)
    return Overload(rate, seconds, calm_rate, during, after, recovered, meter.read())


def _recovered_after(after: Tally, began: int, bound_ms: float) -> int | None:
    well = 0
    for second, tally in _seconds(after, began):
        is_well = len(tally.done) == len(tally.outcomes) and tally.added_ms(99) <= bound_ms
        well = well + 1 if is_well else 0
        if well == WELL_SECONDS:
            return second - WELL_SECONDS + 1
    return None


def _seconds(after: Tally, began: int) -> list[tuple[int, Tally]]:
    return [(n, after.of_second(began + n)) for n in range(RECOVERY_SECONDS)]
