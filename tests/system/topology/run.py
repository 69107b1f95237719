"""A run: traffic while every part is replaced, and the comparison afterwards."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.system.topology.comparison import Comparison, compare
from tests.system.topology.records import Records
from tests.system.topology.replacement import Replaced, parts, replace
from tests.system.topology.topology import LONG_TOKENS, Topology
from tests.system.topology.traffic import TopologyTraffic

PRINTED_FAULTS = 20


@dataclass
class Report:
    """The replaced parts, and the outcome of the requests."""

    records: Records
    replaced: list[Replaced] = field(default_factory=list)
    comparison: Comparison | None = None

    @property
    def faults(self) -> list[str]:
        """Return all broken promises."""
        assert self.comparison is not None
        found = [fault for _, fault in self.records.faults]
        for one in self.replaced:
            found += one.part.faults(one.refusals(self.records))
        counted = sum(len(one.refusals(self.records)) for one in self.replaced)
        if counted != len(self.records.refusals):
            found.append(
                f"{len(self.records.refusals) - counted} refusals while no part was replaced"
            )
        return [*found, *(fault for _, fault in self.comparison.lost), *self.comparison.faults]

    def text(self) -> str:
        """Return a table of the parts, and the sums."""
        assert self.comparison is not None
        lines = [f"{'part':17}{'seconds':>8}{'requests':>10}{'refused':>9}{'for s':>7}{'lost':>6}"]
        for one in self.replaced:
            refused = [refusal.at for refusal in one.refusals(self.records)]
            made = sum(one.began <= done.ended < one.ended for done in self.records.done)
            lost = sum(one.began <= done.ended < one.ended for done, _ in self.comparison.lost)
            seconds = max(refused) - min(refused) if refused else 0.0
            lines.append(
                f"{one.part.name:17}{one.ended - one.began:8.1f}{made:10}{len(refused):9}"
                f"{seconds:7.1f}{lost:6}"
            )
        kinds = Counter(done.kind for done in self.records.done)
        resumed = sum(done.resumed for done in self.records.done)
        lines += [
            ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items())),
            f"{self.comparison.jobs} jobs, {self.comparison.retried} with a second attempt, "
            f"streams resumed {resumed} times, {len(self.comparison.lost)} lost",
            *(f"FAULT {fault}" for fault in self.faults[:PRINTED_FAULTS]),
            f"{len(self.faults)} faults" if self.faults else "nothing lost, nothing twice",
        ]
        return "\n".join(lines)


def run_rounds(directory: Path, model: Path, *, rounds: int, clients: int) -> Report:
    """Run the topology in `directory` with the tokenizer of a model, and return the report."""
    with Topology.started(directory, model) as topology:
        secret = str(topology.service.make_key()["secret"])
        traffic = TopologyTraffic(
            topology.service.url, topology.admin_url, secret, LONG_TOKENS, clients
        )
        report = Report(traffic.records)
        with traffic.running():
            traffic.wait_served()
            for number in range(rounds):
                if number:
                    topology.add_replica()
                for part in parts(topology):
                    report.replaced.append(replace(part, traffic))
                    print(f"{part.name} is replaced", flush=True)
        report.comparison = compare(topology.service.settings, traffic.records)
    return report
