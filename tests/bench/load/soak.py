"""A steady load for a long time, and the growth under it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.bench.load.arrivals import Load
from tests.bench.load.processes import CpuMeter, CpuUse, Processes, Sample
from tests.bench.load.tables import cores, kinds_table, table
from tests.bench.load.tally import Tally

#: Caches fill and pools open in this part of the time: it does not count.
WARM_PART = 0.25
#: A role that grows by more than this in an hour leaks: MiB, and share of its memory.
MOST_GROWTH_MIB, MOST_GROWTH_PART = 4.0, 0.03


@dataclass(frozen=True, slots=True)
class Growth:
    """The course of one number after the warm-up."""

    first: float
    last: float
    least: float
    most: float
    per_hour: float

    @property
    def is_flat(self) -> bool:
        return self.per_hour <= max(MOST_GROWTH_MIB, MOST_GROWTH_PART * self.last)


@dataclass(frozen=True, slots=True)
class Soak:
    """The outcome of a soak."""

    rate: float
    seconds: float
    tally: Tally
    samples: list[Sample]
    cpu: CpuUse

    def growths(self) -> dict[str, Growth]:
        """Return the growth of each sampled number."""
        roles = self.samples[-1].memory_mib
        series: dict[str, Callable[[Sample], float]] = {
            f"{role}, MiB": lambda s, r=role: s.memory_mib.get(r, 0.0)  # type: ignore[misc]
            for role in roles
        }
        series |= {
            f"{role}, open files": lambda s, r=role: float(s.files.get(r, 0))  # type: ignore[misc]
            for role in self.samples[-1].files
        }
        series |= {
            "PostgreSQL, shared buffers touched": lambda s: s.shared_mib,
            "Valkey, used memory, MiB": lambda s: s.redis_mib,
            "keys in Valkey": lambda s: float(sum(s.redis_keys.values())),
            "of these `limit:`": lambda s: float(s.redis_keys.get("limit", 0)),
            "connections to Valkey": lambda s: float(s.redis_connections),
            "connections to PostgreSQL": lambda s: float(s.database_connections),
        }
        return {name: self._growth(read) for name, read in series.items()}

    @property
    def leaks(self) -> list[str]:
        """The roles whose memory grew."""
        return [n for n, g in self.growths().items() if n.endswith(", MiB") and not g.is_flat]

    def to_json(self) -> dict[str, Any]:
        return {
            "rate": round(self.rate, 1),
            "seconds": self.seconds,
            "processors": self.cpu.to_json(),
            **self.tally.to_json(),
            "growth": {
                name: {field: round(getattr(growth, field), 2) for field in Growth.__slots__}
                for name, growth in self.growths().items()
            },
            "leaks": self.leaks,
            "samples": [sample.to_json() for sample in self.samples],
        }

    def _growth(self, read: Callable[[Sample], float]) -> Growth:
        warm = self.samples[int(len(self.samples) * WARM_PART) :]
        values = [read(sample) for sample in warm]
        slope = _slope([sample.at for sample in warm], values)
        return Growth(values[0], values[-1], min(values), max(values), slope * 3600)


async def soak(
    load: Load, processes: Processes, *, rate: float, seconds: float, every: float
) -> Soak:
    """Send a steady load, and sample the service every `every` seconds."""
    meter = CpuMeter(processes)
    samples: list[Sample] = []

    async def sample() -> None:
        while True:
            await asyncio.sleep(every)
            samples.append(await asyncio.to_thread(processes.sample))

    sampling = asyncio.create_task(sample())
    tally = await load.run([(rate, seconds)])
    cpu = meter.read()
    sampling.cancel()
    if not samples:
        raise SystemExit("a soak takes longer than one sample")
    return Soak(rate, seconds, tally, samples, cpu)


def soak_table(seen: Soak) -> str:
    """Return the growths and the verdict."""
    rows = [
        (
            name,
            f"{g.first:.0f}",
            f"{g.last:.0f}",
            f"{g.least:.0f} to {g.most:.0f}",
            f"{g.per_hour:+.1f}",
        )
        for name, g in seen.growths().items()
    ]
    wrong: Mapping[str, int] = seen.tally.to_json()["wrong"]
    lines = [
        f"{seen.rate:.0f} arrivals/s for {seen.seconds:.0f} s: {len(seen.tally.outcomes)} calls,",
        f"{len(seen.tally.shed)} refused, {sum(wrong.values())} wrong {dict(wrong) or ''};",
        f"processors: {cores(seen.cpu.to_json())}",
        "",
        kinds_table(seen.tally),
        "",
        table(("after the warm-up", "first", "last", "range", "an hour"), rows),
        "",
        f"grew: {', '.join(seen.leaks)}" if seen.leaks else "memory: flat",
    ]
    return "\n".join(lines)


def _slope(times: list[float], values: list[float]) -> float:
    """Return the growth a second, by least squares."""
    middle, mean = sum(times) / len(times), sum(values) / len(values)
    spread = sum((t - middle) ** 2 for t in times)
    if not spread:
        return 0.0
    return sum((t - middle) * (v - mean) for t, v in zip(times, values, strict=True)) / spread
