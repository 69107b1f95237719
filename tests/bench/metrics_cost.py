"""Measures what metrics cost a request. `python -m tests.bench.metrics_cost`

Two whole services run on one machine: one has metrics, the other has none. They get the load in
alternation, so that other programs on the machine disturb both alike. The main figure is the
processor time of the API and the worker for a request. Other programs disturb it less than the
requests a second. Both figures are the median of the rounds' ratios. `wrk` (Debian's package) makes
the requests.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import text

from cli.system.ports import free_port
from models.database.base import open_database
from tests.bench.request_path.wrk import NO_LIMITS, load
from tests.bench.servers import MODEL, own_servers
from tests.support.prometheus import samples, scrape, total
from tests.support.service import Service

PROGRAMS = ("api", "worker")


@dataclass
class Figures:
    """The measurements of one kind of service, one value for each round."""

    rates: list[float] = field(default_factory=list)
    api_ms: list[float] = field(default_factory=list)
    worker_ms: list[float] = field(default_factory=list)

    @property
    def both_ms(self) -> list[float]:
        return [api + worker for api, worker in zip(self.api_ms, self.worker_ms, strict=True)]


@dataclass
class Measured:
    """A service, and the figures that its rounds are added to."""

    service: Service
    headers: dict[str, str]
    figures: Figures
    is_warm: bool = False

    def measure(self, at_once: int, seconds: int) -> None:
        """Load the service; note requests a second, and milliseconds of processor a request."""
        url = f"{self.service.url}/api/llm/generate"
        if not self.is_warm:
            load(url, self.headers, at_once, seconds)
            self.is_warm = True
        api, worker, counted = self._api_seconds(), self._worker_seconds(), self._jobs()
        self.figures.rates.append(load(url, self.headers, at_once, seconds, is_warm=True))
        time.sleep(0.2)
        requests = self._jobs() - counted
        self.figures.api_ms.append((self._api_seconds() - api) * 1000 / requests)
        self.figures.worker_ms.append((self._worker_seconds() - worker) * 1000 / requests)

    def print_counted(self) -> None:
        if port := self.service.settings.worker_metrics_port:
            counted = total(samples(scrape(port)), "bountycoder_jobs_total")
            print(f"{counted:.0f} of {self._jobs()} jobs were counted")

    def _api_seconds(self) -> float:
        assert self.service.api is not None
        return _cpu_seconds(self.service.api.pid)

    def _worker_seconds(self) -> float:
        return sum(_cpu_seconds(process.pid) for process in self.service.workers)

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
    without, measured = Figures(), Figures()
    for is_swapped in (False, True):
        _measure(args, without, measured, is_swapped)
    _report("requests/s", without.rates, measured.rates)
    _report("ms of the API's processor a request", without.api_ms, measured.api_ms)
    _report("ms of the worker's processor a request", without.worker_ms, measured.worker_ms)
    _report("ms of processor a request", without.both_ms, measured.both_ms)


def _measure(
    args: argparse.Namespace, without: Figures, measured: Figures, is_swapped: bool
) -> None:
    """Measure half of the rounds. The order in which the services start may matter."""
    with tempfile.TemporaryDirectory() as metrics_dir, ExitStack() as stack:
        kinds: list[tuple[Figures, dict[str, Any]]] = [
            (without, {}),
            (measured, {**_ports(args), "metrics_dir": metrics_dir}),
        ]
        services = [
            stack.enter_context(_service(args.model, figures, **changes))
            for figures, changes in (reversed(kinds) if is_swapped else kinds)
        ]
        for number in range(args.rounds // 2):
            for service in reversed(services) if number % 2 else services:
                service.measure(args.at_once, args.seconds)
        for service in services:
            service.print_counted()


def _ports(args: argparse.Namespace) -> dict[str, int]:
    programs = [] if args.control else [args.only] if args.only else PROGRAMS
    return {f"{program}_metrics_port": free_port() for program in programs}


@contextmanager
def _service(model: Path, figures: Figures, **changes: Any) -> Iterator[Measured]:
    with (
        own_servers(model, **NO_LIMITS) as (settings, directory),
        Service.started(settings, directory, **changes) as service,
    ):
        headers = {"x-api-key": service.make_key(rateLimit=1_000_000)["secret"]}
        yield Measured(service, headers, figures)


def _cpu_seconds(process_id: int) -> float:
    """Return the processor time that a process and its children have taken."""
    top = psutil.Process(process_id)
    times = [process.cpu_times() for process in (top, *top.children(recursive=True))]
    return sum(one.user + one.system for one in times)


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
