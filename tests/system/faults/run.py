"""Runs of real traffic in which things break at random. `python -m tests.system.faults --runs 200`

Each run sends traffic of all kinds for a few seconds, does one to three faults meanwhile, mends
everything, waits until all that was accepted has ended, and checks what must hold. The first broken
invariant ends it, with what is needed to repeat the run.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.system.faults.faults import FAULTS, Fault, Scene, Undo
from tests.system.faults.instance import Instance
from tests.system.faults.invariants import Invariants, wait_quiet, watch_changes
from tests.system.faults.recovery import (
    of_a_dead_workers_jobs,
    of_a_poisoned_batch,
    of_postgres,
    of_redis,
)
from tests.system.faults.traffic import Traffic

TRAFFIC_SECONDS = (2.5, 4.0)
MOST_FAULTS = 3


@dataclass
class Outcome:
    """What became of one run.

    Attributes:
        faults: what was broken, in order, with the second of it.
        whole_seconds: from the last mending until all parts served.
        quiet_seconds: from then until all that was accepted had ended.
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
        told = ", ".join(f"{count} {what}" for what, count in self.statuses.most_common(6))
        return (
            f"seed {self.seed}: {'; '.join(self.faults) or 'no fault'} | {self.accepted} jobs |"
            f" {told} | whole after {self.whole_seconds:.1f} s, quiet {self.quiet_seconds:.1f} s,"
            f" tidy {self.tidy_seconds:.1f} s, {self.seconds:.1f} s in all"
        )


class Runs:
    """Runs on one instance, one after the other."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        watch_changes(instance)
        self._invariants = Invariants(instance)
        warm_up = self.run(0, [])
        assert not warm_up.broken, "\n".join(warm_up.broken)

    def possible(self, names: Sequence[str] = ()) -> list[Fault]:
        """Return the faults that can be made here, those of `names` if there are any."""
        chosen = [fault for fault in FAULTS if not names or fault.name in names]
        return [fault for fault in chosen if fault.is_possible(self._instance)]

    def run(self, seed: int, faults: Sequence[Fault]) -> Outcome:
        """Make one run, with some of the faults; its seed draws all that is drawn."""
        began = time.monotonic()
        draw = random.Random(seed)
        count = draw.randrange(1, MOST_FAULTS + 1)
        chosen = draw.sample(faults, min(count, len(faults)))
        outcome = Outcome(seed)
        traffic = Traffic(self._instance, seed)
        traffic.start()
        self._break(Scene(self._instance, traffic, draw), chosen, outcome)
        mended = time.monotonic()
        try:
            self._instance.mend()
        except AssertionError as error:
            outcome.broken.append(str(error).partition("\n")[0])
            return outcome
        whole = time.monotonic()
        traffic.stop()
        outcome.broken += wait_quiet(self._instance)
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

    def _break(self, scene: Scene, faults: Sequence[Fault], outcome: Outcome) -> None:
        """Do the faults at their times, and end each after its own; the traffic goes on.

        On this thread, the main one: a server that it starts again lives no longer than the thread.
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
                said, undo = fault.do(scene)
                outcome.faults.append(f"{now:.1f} s {fault.name} {said}".rstrip())
                undos.append((time.monotonic() - began + draw.uniform(*fault.seconds), undo))
            for at, undo in [one for one in undos if now >= one[0]]:
                undos.remove((at, undo))
                undo()
            if not todo and not undos and now >= length:
                return
            time.sleep(0.02)


def measure_recovery() -> int:
    """Print how long each recovery takes; 1 if one takes longer than promised."""
    is_late = False
    with Instance.started(changes={"LEASE_SECONDS": "10"}) as instance:
        for measure in (of_a_dead_workers_jobs, of_redis, of_postgres, of_a_poisoned_batch):
            recovery = measure(instance)
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
    with Instance.started() as instance:
        runs = Runs(instance)
        faults = runs.possible(args.fault)
        for fault in FAULTS:
            if fault not in faults and (not args.fault or fault.name in args.fault):
                print(f"not possible here: {fault.name}")
        for number in range(args.runs):
            outcome = runs.run(args.seed + number, faults)
            print(f"{number + 1:4} {outcome}", flush=True)
            if outcome.broken:
                print("BROKEN:", *outcome.broken, sep="\n  ")
                print("told:", dict(outcome.statuses))
                print(instance.explain(), file=sys.stderr)
                again = "".join(f" --fault '{name}'" for name in args.fault)
                print(f"again: python -m tests.system.faults --runs 1 --seed {outcome.seed}{again}")
                return 1
    print(f"{args.runs} runs, no broken invariant")
    return 0
