"""Draining and replacing one part after the other, and the refusals that clients may get."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial

from tests.support.polling import wait_until
from tests.support.postgres import query
from tests.support.processes import STOP_SECONDS, end
from tests.system.topology.records import NO_RESPONSE, Records, Refusal
from tests.system.topology.topology import API_ADDRESSES, API_DRAIN_SECONDS, WORKERS, Topology
from tests.system.topology.traffic import TopologyTraffic

#: Bound of the time between the first and the last refusal, for a part that exists once.
MOST_SECONDS = 5.0
#: The same for the admin UI, whose start takes longer.
START_SECONDS = 60.0
FOLLOW_SECONDS = 30.0
#: Bound of the time that a program takes to end beyond its drain.
LEAVE_SECONDS = 30.0
EVERY_KIND: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Part:
    """A part, how it is replaced, and the refusals that this may cause.

    Attributes:
        replace: returns when the new part works.
        statuses: of the allowed refusals; empty for a part that exists twice.
        kinds: of requests that may be refused; empty means all.
    """

    name: str
    replace: Callable[[], None]
    statuses: frozenset[int] = frozenset()
    kinds: frozenset[str] = EVERY_KIND
    most_seconds: float = MOST_SECONDS

    def faults(self, refusals: Collection[Refusal]) -> Iterator[str]:
        """Yield the refusals that are not allowed."""
        for refusal in refusals:
            may_be = refusal.status in self.statuses and (
                not self.kinds or refusal.kind in self.kinds
            )
            if not may_be or (refusal.status != NO_RESPONSE and not refusal.says_when):
                yield f"{self.name}: {refusal}"
        if refusals:
            times = [refusal.at for refusal in refusals]
            if max(times) - min(times) > self.most_seconds:
                yield f"{self.name}: requests were refused for {max(times) - min(times):.1f} s"


@dataclass(frozen=True)
class Replaced:
    """A replaced part, with its start and the moment when all kinds were served."""

    part: Part
    began: float
    ended: float

    def refusals(self, records: Records) -> list[Refusal]:
        return records.refused(self.began, self.ended)


def parts(topology: Topology) -> list[Part]:
    """Return all parts; those that exist twice alternate."""
    found = []
    for number, address in enumerate(API_ADDRESSES):
        found.append(Part(f"api {number + 1}", partial(_replace_api, topology, address)))
        if number < WORKERS:
            worker = partial(_replace_worker, topology, number)
            found.append(Part(f"worker {number + 1}", worker))
    if topology.prometheus is not None:
        found.append(Part("prometheus", partial(_replace_prometheus, topology)))
    away, page = frozenset({503}), frozenset({"page"})
    return [
        *found,
        Part("admin", partial(_replace_admin_ui, topology), away, page, START_SECONDS),
        Part("nginx, reloaded", topology.nginx.reload),
        Part("nginx, replaced", topology.replace_nginx, frozenset({NO_RESPONSE})),
        Part("valkey", partial(_replace_valkey, topology), away),
        Part("postgresql", partial(_replace_primary, topology), away),
    ]


def replace(part: Part, traffic: TopologyTraffic) -> Replaced:
    """Replace a part and wait until every kind of request is served."""
    began = time.monotonic()
    part.replace()
    traffic.wait_served()
    return Replaced(part, began, time.monotonic())


def _replace_api(topology: Topology, address: str) -> None:
    log = len(topology.nginx.access_log())
    for other in topology.apis.keys() - {address}:
        topology.wait_passed_to(other, after=log)  # NGINX passes requests to it
    _drain(topology, topology.apis[address])
    topology.spawn_api(address)
    topology.wait_api(address)


def _replace_worker(topology: Topology, number: int) -> None:
    _drain(topology, topology.service.workers[number])
    topology.spawn_worker(number)
    topology.wait_workers()


def _replace_admin_ui(topology: Topology) -> None:
    assert topology.service.admin_ui is not None
    _drain(topology, topology.service.admin_ui)
    topology.spawn_admin_ui()
    topology.service.wait_admin_ui()


def _replace_prometheus(topology: Topology) -> None:
    """Replace Prometheus; the new one has its data and scrapes every program."""
    monitoring = topology.monitoring
    assert monitoring is not None and topology.prometheus is not None
    before = time.time()
    topology.prometheus.stop(signal.SIGTERM, STOP_SECONDS)
    topology.prometheus = monitoring.start_prometheus()
    programs = sum(len(ports) for ports in topology.targets().values())
    up = 'up{job=~"bountycoder-.*"}'
    wait_until(
        lambda: monitoring.value(f"count({up} == 1)") == programs, FOLLOW_SECONDS, monitoring.logs
    )
    assert monitoring.value(f"count({up} @ {before:.0f})"), "Prometheus has lost its data"


def _replace_valkey(topology: Topology) -> None:
    """Stop Valkey and start it on its data."""
    topology.valkey.stop()
    topology.valkey.start()
    topology.wait_served()


def _replace_primary(topology: Topology) -> None:
    """Stop the primary, which first sends all changes to its replica; promote the replica."""
    topology.primary.stop()
    assert query(topology.replica, "select pg_promote(true, 60)")
    topology.primary, topology.replica = topology.replica, topology.primary
    topology.nginx.reload()
    topology.wait_served()


def _drain(topology: Topology, program: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM to a program; it ends by itself within its grace period."""
    code = end(program, seconds=API_DRAIN_SECONDS + LEAVE_SECONDS)
    assert code == 0, f"it ended with {code}\n{topology.service.logs()[-4000:]}"
