"""A run: traffic, every part replaced so many times, and the count."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.system.topology.account import Account, count
from tests.system.topology.records import Records
from tests.system.topology.replacement import Replaced, parts, replace
from tests.system.topology.topology import LONG_TOKENS, Topology
from tests.system.topology.traffic import Traffic

SHOWN_FAULTS = 20


@dataclass
class Report:
    """What was replaced, and what became of the requests."""

    records: Records
    replaced: list[Replaced] = field(default_factory=list)
    account: Account | None = None

    @property
    def faults(self) -> list[str]:
        """Return all that is not as promised."""
        assert self.account is not None
        found = [fault for _, fault in self.records.faults]
        for one in self.replaced:
            found += one.part.faults(one.refusals(self.records))
        counted = sum(len(one.refusals(self.records)) for one in self.replaced)
        if counted != len(self.records.refusals):
            found.append(f"{len(self.records.refusals) - counted} refusals while nothing happened")
        return [*found, *(fault for _, fault in self.account.lost), *self.account.faults]

    def text(self) -> str:
        """Return a table of the parts, and the sums."""
        assert self.account is not None
        lines = [f"{'part':17}{'seconds':>8}{'requests':>10}{'refused':>9}{'for s':>7}{'lost':>6}"]
        for one in self.replaced:
            refused = [refusal.at for refusal in one.refusals(self.records)]
            asked = sum(one.began <= done.ended < one.ended for done in self.records.done)
            lost = sum(one.began <= done.ended < one.ended for done, _ in self.account.lost)
            seconds = max(refused) - min(refused) if refused else 0.0
            lines.append(
                f"{one.part.name:17}{one.ended - one.began:8.1f}{asked:10}{len(refused):9}"
                f"{seconds:7.1f}{lost:6}"
            )
        kinds = Counter(done.kind for done in self.records.done)
        again = sum(done.again for done in self.records.done)
        lines += [
            ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items())),
            f"{self.account.jobs} jobs, {self.account.begun_again} begun more than once, "
            f"streams taken up again {again} times, {len(self.account.lost)} lost",
            *(f"FAULT {fault}" for fault in self.faults[:SHOWN_FAULTS]),
            f"{len(self.faults)} faults" if self.faults else "nothing lost, nothing twice",
        ]
        return "\n".join(lines)


def run_rounds(directory: Path, model: Path, *, rounds: int, clients: int) -> Report:
    """Run everything in `directory` with the tokenizer of a model, and return what was seen."""
    with Topology.started(directory, model) as topology:
        secret = str(topology.service.make_key()["secret"])
        traffic = Traffic(topology.service.url, topology.admin_url, secret, LONG_TOKENS, clients)
        report = Report(traffic.records)
        with traffic.running():
            traffic.wait_served()
            for number in range(rounds):
                if number:
                    topology.add_replica()
                for part in parts(topology):
                    report.replaced.append(replace(part, traffic))
                    print(f"{part.name} is replaced", flush=True)
        report.account = count(topology.service.settings, traffic.records)
    return report
