"""Runs of real traffic with random faults. `python -m tests.system.faults --runs 200`

Each run sends traffic of all kinds for a few seconds and does one to three faults. It then mends
everything, waits until all accepted work has ended, and checks the invariants. The first broken
invariant ends the series; the program prints the command that repeats the run.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.system.faults.installation.breakable import BreakableInstallation
from tests.system.faults.invariants import Invariants, record_changes, wait_quiet
from tests.system.faults.kinds.catalogue import FAULTS, Fault
from tests.system.faults.kinds.scene import Scene, Undo
from tests.system.faults.recovery import (
    of_a_dead_workers_jobs,
    of_a_poisoned_batch,
    of_postgres,
    of_redis,
)
from tests.system.faults.traffic.clients import FaultTraffic

TRAFFIC_SECONDS = (2.5, 4.0)
MOST_FAULTS = 3


@dataclass
class RunOutcome:
    """The outcome of one run.

    Attributes:
        faults: the faults in order, each with its second.
        broken: the broken invariants.
        whole_seconds: from the last mending until all parts served.
        quiet_seconds: from then until all accepted work had ended.
        tidy_seconds: from then until nothing was left, with the time of the checks.
    """

    seed: int
    faults: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    whole_seconds: float = 0.0
    quiet_seconds: float = 0.0
    tidy_seconds: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        statuses = ", ".join(f"{count} {name}" for name, count in self.statuses.most_common(6))
        return (
            f"seed {self.seed}: {'; '.join(self.faults) or 'no fault'} | {self.accepted} jobs |"
            f" {statuses} | whole after {self.whole_seconds:.1f} s,"
            f" quiet {self.quiet_seconds:.1f} s, tidy {self.tidy_seconds:.1f} s,"
            f" {self.seconds:.1f} s in all"
        )


class Runs:
    """Runs on one installation, one after the other."""

    def __init__(self, installation: BreakableInstallation) -> None:
        self._installation = installation
        record_changes(installation)
        self._invariants = Invariants(installation)
        warm_up = self.run(0, [])
        assert not warm_up.broken, "\n".join(warm_up.broken)

    def possible(self, names: Sequence[str] = ()) -> list[Fault]:
        """Return the faults that this machine can do, only those of `names` if any are given."""
        chosen = [fault for fault in FAULTS if not names or fault.name in names]
        return [fault for fault in chosen if fault.is_possible(self._installation)]

    def run(self, seed: int, faults: Sequence[Fault]) -> RunOutcome:
        """Make one run with some of the faults; the seed draws all choices."""
        began = time.monotonic()
        draw = random.Random(seed)
        count = draw.randrange(1, MOST_FAULTS + 1)
        chosen = draw.sample(faults, min(count, len(faults)))
        outcome = RunOutcome(seed)
        traffic = FaultTraffic(self._installation, seed)
        traffic.start()
        self._break(Scene(self._installation, traffic, draw), chosen, outcome)
        mended = time.monotonic()
        try:
            self._installation.mend()
        except AssertionError as error:
            outcome.broken.append(str(error).partition("\n")[0])
            return outcome
        whole = time.monotonic()
        traffic.stop()
        outcome.broken += wait_quiet(self._installation)
        outcome.whole_seconds = whole - mended
        outcome.quiet_seconds = time.monotonic() - whole
        quiet = time.monotonic()
        if not outcome.broken:
            losses = sum(fault.loses_counts for fault in chosen)
            outcome.broken += self._invariants.broken(traffic, losses=losses)
        outcome.tidy_seconds = time.monotonic() - quiet
        outcome.statuses = traffic.notes.statuses
        outcome.accepted = sum(seen.job is not None for seen in traffic.notes.seen)
        outcome.seconds = time.monotonic() - began
        return outcome

    def _break(self, scene: Scene, faults: Sequence[Fault], outcome: RunOutcome) -> None:
        """Do the faults at their times and end each of them, while the traffic continues.

        Call it on the main thread: a server dies with the thread that started it.
        """
        draw, began = scene.draw, time.monotonic()
        length = draw.uniform(*TRAFFIC_SECONDS)
        todo = [(draw.uniform(0.3, 0.8) * length, fault) for fault in faults]
        todo.sort(key=lambda one: one[0])
        undos: list[tuple[float, Undo]] = []
        while True:
            now = time.monotonic() - began
            if todo and now >= todo[0][0]:
                _, fault = todo.pop(0)
                target, undo = fault.do(scene)
                outcome.faults.append(f"{now:.1f} s {fault.name} {target}".rstrip())
                undos.append((time.monotonic() - began + draw.uniform(*fault.seconds), undo))
            for at, undo in [one for one in undos if now >= one[0]]:
                undos.remove((at, undo))
                undo()
            if not todo and not undos and now >= length:
                return
            time.sleep(0.02)


def measure_recovery() -> int:
    """Print the time of each recovery; return 1 if one exceeds its bound."""
    is_late = False
    with BreakableInstallation.started(changes={"LEASE_SECONDS": "10"}) as installation:
        for measure in (of_a_dead_workers_jobs, of_redis, of_postgres, of_a_poisoned_batch):
            recovery = measure(installation)
            is_late |= recovery.seconds > recovery.bound
            print(recovery, flush=True)
    return int(is_late)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1, 10**6))
    parser.add_argument("--fault", action="append", default=[], choices=[f.name for f in FAULTS])
    parser.add_argument("--recovery", action="store_true", help="measure recovery times instead")
    args = parser.parse_args(arguments)
    if args.recovery:
        return measure_recovery()
    print(f"seed {args.seed}", flush=True)
    with BreakableInstallation.started() as installation:
        runs = Runs(installation)
        faults = runs.possible(args.fault)
        for fault in FAULTS:
            if fault not in faults and (not args.fault or fault.name in args.fault):
                print(f"not possible here: {fault.name}")
        for number in range(args.runs):
            outcome = runs.run(args.seed + number, faults)
            print(f"{number + 1:4} {outcome}", flush=True)
            if outcome.broken:
                print("BROKEN:", *outcome.broken, sep="\n  ")
                print("statuses:", dict(outcome.statuses))
                print(installation.explain(), file=sys.stderr)
                names = "".join(f" --fault '{name}'" for name in args.fault)
                command = "python -m tests.system.faults --runs 1 --seed"
                print(f"to repeat it: {command} {outcome.seed}{names}")
                return 1
    print(f"{args.runs} runs, no broken invariant")
    return 0
