"""The cost of one call of a kind: processor time of all processes of the service, and latency."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench.load.arrivals import Load, Supply
from tests.bench.load.deployment import Deployment
from tests.bench.load.mix import Call, Kind, Mix, poll_of
from tests.bench.load.processes import CpuMeter

WARM_SECONDS = 1.0
IDLE_SECONDS = 3.0
#: The wait after the last response, for work behind it.
REST_SECONDS = 0.7
#: A ratio up to this is flat: two runs of the same differ by as much.
FLAT = 1.25


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one call."""

    cpu_ms: float
    p50_ms: float
    calls: int


class Polls:
    """Polls of some jobs, one after the other."""

    def __init__(self, jobs: Sequence[tuple[str, str]], mix: Mix) -> None:
        """Take the jobs' paths and the secrets of their keys."""
        self._calls = [poll_of(path, secret) for path, secret in jobs]
        self._next = 0
        self.wait_seconds = mix.wait_seconds

    def draw(self) -> Call:
        self._next = (self._next + 1) % len(self._calls)
        return self._calls[self._next]


class ShortWaits:
    """Synchronous calls that stop waiting after a second; no worker runs their jobs."""

    SECONDS = 1

    def __init__(self, mix: Mix) -> None:
        self._mix = mix
        self.wait_seconds = mix.wait_seconds

    def draw(self) -> Call:
        call = self._mix.draw()
        head, _, body = call.request.partition(b"\r\n\r\n")
        wait = f"\r\nPrefer: wait={self.SECONDS}\r\n\r\n".encode()
        return Call(Kind.JOB, call.secret, head + wait + body)


def of_kind(secrets: Sequence[str], kind: Kind) -> Mix:
    return Mix(secrets, shares={kind: 1.0})


async def idle_cores(running: Deployment) -> float:
    """Return the processors that the idle service keeps busy."""
    meter = CpuMeter(running.processes)
    await asyncio.sleep(IDLE_SECONDS)
    used = meter.read()
    return used.service / used.seconds


async def costs(
    running: Deployment, supplies: Mapping[str, Supply], *, rate: float, seconds: float
) -> dict[str, Cost]:
    """Measure one kind after the other; return their costs beyond those of the idle service."""
    idle = await idle_cores(running)
    return {
        name: await _cost(running.load(supply, is_following=False), running, idle, rate, seconds)
        for name, supply in supplies.items()
    }


async def _cost(load: Load, running: Deployment, idle: float, rate: float, seconds: float) -> Cost:
    await load.run([(rate, WARM_SECONDS)])
    await asyncio.sleep(REST_SECONDS)
    meter = CpuMeter(running.processes)
    tally = await load.run([(rate, seconds)])
    await asyncio.sleep(REST_SECONDS)
    used = meter.read()
    await load.close()
    if len(tally.done) != len(tally.outcomes):
        raise SystemExit(f"not all calls were done: {tally.to_json()}")
    cpu_seconds = used.service - idle * used.seconds
    return Cost(1000 * cpu_seconds / len(tally.done), tally.added_ms(50), len(tally.done))


def verdict(first: Cost, last: Cost) -> str:
    """Return "flat", or the ratio of the last cost to the first."""
    times = last.cpu_ms / first.cpu_ms
    return "flat" if times <= FLAT else f"{times:.1f} times"
