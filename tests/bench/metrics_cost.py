"""What metrics cost a request. `python -m tests.bench.metrics_cost`

Two whole services on one machine, one that measures and shows its metrics and one that does not,
are asked in turns, so that whatever else the machine does meets both. What counts is the processor
time that the API and the worker take for a request, which others on the machine disturb less than
how many are answered; of both the median of the rounds' ratios is told. `wrk` (Debian's package)
makes the requests.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import text

from models.base import open_database
from tests.bench.request_path import NO_LIMITS, load
from tests.bench.servers import MODEL, own_servers
from tests.prometheus import samples, scrape, total
from tests.service import Service, free_port

PROGRAMS = ("api", "worker")


@dataclass
class Measured:
    """A service, and what was measured of it, a value for each round."""

    service: Service
    headers: dict[str, str]
    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def measure(self, at_once: int, seconds: int) -> None:
        """Ask for some time; note requests a second, and milliseconds of processor a request."""
        url = f"{self.service.url}/api/llm/generate"
        before, counted = self._cpu_seconds(), self._jobs()
        self.rates.append(load(url, self.headers, at_once, seconds, is_warm=bool(self.rates)))
        time.sleep(0.2)
        requests = self._jobs() - counted
        self.cpu_ms.append((self._cpu_seconds() - before) * 1000 / requests)

    def _cpu_seconds(self) -> float:
        api = self.service.api
        assert api is not None
        tops = [psutil.Process(process.pid) for process in (api, *self.service.workers)]
        times = [p.cpu_times() for top in tops for p in (top, *top.children(recursive=True))]
        return sum(one.user + one.system for one in times)

    def _jobs(self) -> int:
        engine = open_database(self.service.settings)
        with engine.connect() as connection:
            found = connection.execute(
                text("select count(*) from jobs where finished_at is not null")
            )
            jobs = int(found.scalar_one())
        engine.dispose()
        return jobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL, help="a directory with a tokenizer")
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--seconds", type=int, default=1, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--only", choices=list(PROGRAMS), help="let this program alone measure")
    parser.add_argument("--control", action="store_true", help="measure with neither: the noise")
    args = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("this benchmark needs wrk: apt-get install wrk")
    with (
        tempfile.TemporaryDirectory() as kept,
        _service(args.model) as without,
        _service(args.model, **_ports(args), metrics_dir=kept) as measured,
    ):
        for number in range(args.rounds):
            for one in (without, measured) if number % 2 else (measured, without):
                one.measure(args.at_once, args.seconds)
        if port := measured.service.settings.worker_metrics_port:
            counted = total(samples(scrape(port)), "bountycoder_jobs_total")
            print(f"{counted:.0f} jobs were counted")
    _report("requests/s", without.rates, measured.rates)
    _report("ms of processor a request", without.cpu_ms, measured.cpu_ms)


def _ports(args: argparse.Namespace) -> dict[str, int]:
    programs = [] if args.control else [args.only] if args.only else PROGRAMS
    return {f"{program}_metrics_port": free_port() for program in programs}


@contextmanager
def _service(model: Path, **changes: Any) -> Iterator[Measured]:
    with (
        own_servers(model, **NO_LIMITS) as (settings, directory),
        Service.started(settings, directory, **changes) as service,
    ):
        yield Measured(service, {"x-api-key": service.make_key(rateLimit=1_000_000)["secret"]})


def _report(what: str, without: list[float], measured: list[float]) -> None:
    print(f"{what}:")
    for name, values in (("without", without), ("with", measured)):
        low, middle, high = statistics.quantiles(values, n=4)
        print(f"  {name:8} {middle:8.3f} (quartiles {low:.3f} to {high:.3f})")
    ratios = [b / a for a, b in zip(without, measured, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"  with metrics {middle:.3f} of without (quartiles {low:.3f} to {high:.3f})")
    print(f"  the medians' ratio {statistics.median(measured) / statistics.median(without):.3f}")


if __name__ == "__main__":
    main()
