"""The latency and the outcome of calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bench.load.mix import Kind

#: In place of a status: the response is missing or incomplete.
BROKEN = 0
SHED = 503
#: The status of success, where it is not 200.
DONE = {Kind.JOB: 202, Kind.BATCH: 201}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one call.

    Attributes:
        planned_at: the planned time of sending, in seconds since the load began. The latency counts
            from here, also when the generator itself was late.
        late_ms: the delay of the generator.
        added_ms: the latency beyond the engine's own time.
        first_ms: the time from `planned_at` to the first event of a stream.
        says_when: a refusal has `Retry-After`.
        tokens: the completion tokens that the response reports.
        fault: the error in a response.
    """

    kind: Kind
    status: int
    planned_at: float
    late_ms: float = 0.0
    added_ms: float = 0.0
    first_ms: float | None = None
    says_when: bool = False
    tokens: int = 0
    fault: str | None = None

    @property
    def is_done(self) -> bool:
        return self.fault is None and self.status == DONE.get(self.kind, 200)


@dataclass(slots=True)
class Tally:
    """The outcomes of a span of time."""

    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def done(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.is_done]

    @property
    def shed(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status == SHED]

    @property
    def wrong(self) -> list[Outcome]:
        """The calls that neither succeeded nor were refused with `Retry-After`."""
        return [
            outcome
            for outcome in self.outcomes
            if not outcome.is_done and not (outcome.status == SHED and outcome.says_when)
        ]

    def count(self, *kinds: Kind) -> int:
        """Return how many calls of these kinds succeeded."""
        return sum(outcome.kind in kinds for outcome in self.done)

    def added_ms(self, percent: float, *kinds: Kind) -> float:
        """Return a percentile of the added latency of successful calls; of all kinds by default."""
        done = [o.added_ms for o in self.done if not kinds or o.kind in kinds]
        return percentile(done, percent)

    def of_second(self, second: int) -> Tally:
        """Return the calls that were planned within one second of the load."""
        return Tally([o for o in self.outcomes if second <= o.planned_at < second + 1])

    def to_json(self) -> dict[str, Any]:
        return {
            "calls": len(self.outcomes),
            "done": len(self.done),
            "shed": len(self.shed),
            "shed_with_retry_after": sum(outcome.says_when for outcome in self.shed),
            "wrong": dict(Counter(_fault_of(outcome) for outcome in self.wrong)),
            "generator_late_ms_p99": round(percentile([o.late_ms for o in self.outcomes], 99), 2),
            "added_ms": {**_spread(self.done), **self._by_kind()},
        }

    def _by_kind(self) -> dict[str, Any]:
        by_kind = {}
        for kind in Kind:
            done = [outcome for outcome in self.done if outcome.kind is kind]
            if done:
                by_kind[str(kind)] = {"done": len(done), **_spread(done)}
        firsts = [o.first_ms for o in self.done if o.first_ms is not None]
        if firsts:
            by_kind["first event of a stream"] = {
                "done": len(firsts),
                **{f"p{p}": round(percentile(firsts, p), 1) for p in (50, 90, 99)},
            }
        return by_kind


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that `percent` of the values do not exceed; 0 without values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def _spread(outcomes: Iterable[Outcome]) -> dict[str, float]:
    values = [outcome.added_ms for outcome in outcomes]
    return {f"p{p}": round(percentile(values, p), 1) for p in (50, 90, 99)}


def _fault_of(outcome: Outcome) -> str:
    return f"{outcome.kind} {outcome.status} {outcome.fault or ''}".strip()
