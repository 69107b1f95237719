"""When workers are rented and given back: the decisions, and the loop against real servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cloud.load import ServiceLoad, read_load
from cloud.provider import CloudWorker, Life
from cloud.rest import CloudError
from cloud.runpod import pods
from cloud.scaler import DOWN_SECONDS, UP_SECONDS, Scaler
from tests.cloud.apis import KEY, Api, Reply, RunPodApi, filled
from tests.support.paths import ROOT
from tests.support.polling import wait_until

QUIET = ServiceLoad(0.0, 0.0, 0.0)
BUSY = ServiceLoad(11.0, 0.0, 0.0)


@dataclass
class Memory:
    """A provider whose workers are here at once."""

    workers: list[CloudWorker] = field(default_factory=list)
    drained: list[str] = field(default_factory=list)
    made: int = 0

    def list(self) -> Sequence[CloudWorker]:
        return list(self.workers)

    def create(self) -> str:
        self.made += 1
        self.add(f"w{self.made}")
        return f"w{self.made}"

    def add(self, name: str, life: Life = Life.ALIVE) -> None:
        self.workers.append(CloudWorker(name, name, life.value, life, "", 1.0))

    def drain(self, worker: CloudWorker) -> None:
        self.drained.append(worker.id)

    def end(self, worker: CloudWorker) -> None:
        self.workers.remove(worker)

    def storage(self, name: str, place: str, gigabytes: int) -> str:
        raise NotImplementedError

    def prices(self) -> Sequence[tuple[str, float]]:
        raise NotImplementedError


class Rounds:
    """A scaler with a clock and a load that the test sets."""

    def __init__(self, workers: int = 2) -> None:
        self.now, self.load = 1000.0, QUIET
        self.cloud = Memory()
        for number in range(workers):
            self.cloud.add(f"begun{number}")
        self.scaler = Scaler(
            self.cloud, lambda: self.load, least=2, most=10, clock=lambda: self.now
        )

    def after(self, seconds: float, load: ServiceLoad | None = None) -> int:
        """Let time pass, look once, and return how many workers there are then."""
        self.now += seconds
        self.load = load or self.load
        self.scaler.round()
        return len(self.cloud.workers)


def test_there_are_at_least_two() -> None:
    assert Rounds(workers=0).after(0) == 2


@pytest.mark.parametrize(
    "load", [ServiceLoad(10.1, 0, 0), ServiceLoad(0, 601, 0), ServiceLoad(0, 0, 0.86)]
)
def test_any_load_over_its_limit_adds_two_workers(load: ServiceLoad) -> None:
    assert Rounds().after(0, load) == 4


def test_new_ones_get_time_to_load_before_there_are_more() -> None:
    rounds = Rounds()

    assert rounds.after(0, BUSY) == 4
    assert rounds.after(UP_SECONDS - 1) == 4
    assert rounds.after(1) == 6


def test_there_are_never_more_than_the_most() -> None:
    rounds = Rounds(workers=9)

    assert rounds.after(0, BUSY) == 10
    assert rounds.after(UP_SECONDS) == 10


def test_the_newest_leaves_after_a_quiet_quarter_of_an_hour() -> None:
    rounds = Rounds(workers=4)

    assert rounds.after(0) == 4
    assert rounds.after(DOWN_SECONDS - 1) == 4
    assert rounds.after(1) == 3
    assert rounds.cloud.drained == ["begun3"]
    # The quiet time starts again for the next worker.
    assert rounds.after(1) == 3
    assert rounds.after(DOWN_SECONDS) == 2
    assert rounds.after(DOWN_SECONDS * 3) == 2


def test_half_of_a_limit_is_not_quiet() -> None:
    rounds = Rounds(workers=4)
    rounds.after(0)

    assert rounds.after(DOWN_SECONDS / 2, ServiceLoad(0, 0, 0.5)) == 4
    assert rounds.after(DOWN_SECONDS / 2, QUIET) == 4
    assert rounds.after(DOWN_SECONDS) == 3


def test_failed_ones_are_given_back_and_replaced() -> None:
    rounds = Rounds(workers=1)
    rounds.cloud.add("broken", Life.FAILED)
    rounds.cloud.add("leaving", Life.GONE)

    rounds.after(0)

    assert [worker.id for worker in rounds.cloud.workers] == ["begun0", "leaving", "w1"]


def test_while_nothing_is_known_nobody_comes_or_goes() -> None:
    rounds = Rounds(workers=4)

    def unknown() -> ServiceLoad:
        raise CloudError("Prometheus does not respond")

    rounds.after(0)
    rounds.scaler.load = unknown
    assert rounds.after(DOWN_SECONDS) == 4
    rounds.scaler.load = lambda: QUIET
    assert rounds.after(1) == 4


class PrometheusApi(Api):
    """Responds as Prometheus does; `seconds` is the age of the queue, `None` an empty result."""

    seconds: float | None = 0.0

    def take(self, request: object) -> Reply:
        path = str(getattr(request, "path", ""))
        is_known = self.seconds is not None and "queue_oldest" in path
        value = [{"metric": {}, "value": [1, str(self.seconds)]}] if is_known else []
        return 200, {"status": "success", "data": {"resultType": "vector", "result": value}}, {}


@contextmanager
def scaling(runpod: str, prometheus: str, body: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the program until the block ends; SIGTERM must end it with exit code 0."""
    arguments = ["runpod", "--body", str(body), "scale", "--prometheus", prometheus]
    process = subprocess.Popen(
        [sys.executable, "-m", "cloud", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "RUNPOD_API_URL": runpod, "RUNPOD_API_KEY": KEY},
    )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(20)


def test_the_program_asks_prometheus_and_rents(tmp_path: Path) -> None:
    runpod, prometheus = RunPodApi(), PrometheusApi()
    prometheus.seconds = 30.0
    runpod.add_pod({"image": "i", "gpu": {"id": "g"}, "name": "bountycoder-worker-a"})
    runpod.add_pod({"image": "i", "gpu": {"id": "g"}, "name": "bountycoder-worker-b"})

    with (
        runpod.served() as address,
        prometheus.served() as queries,
        scaling(address, queries, filled(pods.BODY, tmp_path)),
    ):
        wait_until(lambda: len(runpod.things) == 4, 20)


def test_a_prometheus_that_knows_no_queue_is_no_quiet_one() -> None:
    prometheus = PrometheusApi()

    with prometheus.served() as address:
        assert read_load(address) == ServiceLoad(0.0, 0.0, 0.0)
        prometheus.seconds = None
        with pytest.raises(CloudError, match="has no metrics"):
            read_load(address)
    with pytest.raises(CloudError, match="does not respond"):
        read_load(address)
