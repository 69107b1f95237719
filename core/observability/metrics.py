"""The names, buckets and factories of the metrics that programs share.

docs/metrics.md explains each metric; a test compares. A process makes its instruments after it has
claimed its slot (`core/observability/metric_files.py`); otherwise no scrape sees them.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import prometheus_client
from prometheus_client import Counter, Gauge

from core.queueing.names import QueueName

PREFIX = "bountycoder"

#: A client can send any method, which would become a label's value: only these are counted.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: The route of a request that matched none.
UNMATCHED = "unmatched"

#: The buckets of vLLM, so that quantiles in its dashboards use the same bounds.
FIRST_TOKEN_SECONDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
OUTPUT_TOKEN_SECONDS = (
    *(0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5),
    *(0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
#: With finer buckets below, because batch lines and small models are faster.
JOB_SECONDS = (
    *(0.01, 0.025, 0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0),
    *(20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
PACES = (1, 2.5, 5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 300, 500, 1000)
#: `POST /api/llm/generate` waits up to `SYNC_WAIT_SECONDS`; the head of a stream is sent at once.
REQUEST_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    *(30.0, 60.0, 120.0, 600.0),
)
STEP_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
STEP_SEQUENCES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024)
STEP_TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


def layout() -> str:
    """Return the version of the instruments; files of another version cannot be continued."""
    versions = [version(name) for name in ("bountycoder", "prometheus-client")]
    return hashlib.sha256(Path(__file__).read_bytes() + repr(versions).encode()).hexdigest()


def counter(name: str, text: str, labels: Iterable[str] = ()) -> Counter:
    """Return a counter; the library appends `_total` to its name."""
    return Counter(f"{PREFIX}_{name}", text, labels, registry=None)


class Histogram(prometheus_client.Histogram):
    """The library's histogram with a binary search: the library tries every bucket in order."""

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        self.observe_all((amount,))

    def observe_all(self, amounts: Sequence[float]) -> None:
        """Observe several amounts, which costs less than single calls."""
        self._sum.inc(sum(amounts))
        for amount in amounts:
            self._buckets[bisect_left(self._upper_bounds, amount)].inc(1)


def histogram(
    name: str, text: str, buckets: Iterable[float], labels: Iterable[str] = ()
) -> Histogram:
    return Histogram(f"{PREFIX}_{name}", text, labels, buckets=tuple(buckets), registry=None)


def requests_in_progress() -> Gauge:
    """Return the gauge of open requests in all live processes of a web program."""
    return Gauge(
        f"{PREFIX}_http_requests_in_progress",
        "Requests that wait, are handled or stream now.",
        multiprocess_mode="livesum",
        registry=None,
    )


class EndedJobs:
    """Counts the jobs that ended, by queue and state.

    Args:
        states: the final states of jobs.
    """

    def __init__(self, states: Iterable[str]) -> None:
        jobs = counter("jobs", "Jobs ended.", ["queue", "state"])
        # Export all counters from the start: Prometheus misses the first increase of a new one.
        self._counters = {
            (queue.value, state): jobs.labels(queue.value, state)
            for queue in QueueName
            for state in states
        }

    def count(self, queue: str, state: str, jobs: int) -> None:
        self._counters[queue, state].inc(jobs)
