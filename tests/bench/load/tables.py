"""Measurements as Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.load.overload import Overload
from tests.bench.load.search import Step
from tests.bench.load.tally import Tally


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def kinds_table(tally: Tally) -> str:
    """Return the added latency of each kind of call."""
    spread = tally.to_json()["added_ms"]
    rows = [("all", len(tally.done), spread["p50"], spread["p90"], spread["p99"])]
    for kind, seen in spread.items():
        if isinstance(seen, dict):
            rows.append((kind, seen["done"], seen["p50"], seen["p90"], seen["p99"]))
    return table(("call", "done", "p50 ms", "p90 ms", "p99 ms"), rows)


def steps_table(steps: Sequence[Step]) -> str:
    """Return the measured rates."""
    rows = []
    for step in steps:
        seen = step.tally
        rows.append(
            (
                f"{step.rate:.0f}",
                len(seen.outcomes),
                len(seen.shed),
                len(seen.wrong),
                f"{seen.added_ms(50):.0f}",
                f"{seen.added_ms(99):.0f}",
                cores(step.cpu.to_json()),
                "yes" if step.is_within else "no",
            )
        )
    head = ("arrivals/s", "calls", "503", "wrong", "p50 ms", "p99 ms", "processors", "within")
    return table(head, rows)


def overload_table(seen: Overload) -> str:
    """Return the outcome of an overload."""
    during = seen.during.to_json()
    recovered = seen.recovered_after
    rows = [
        ("arrivals a second, for seconds", f"{seen.rate:.0f}, {seen.seconds:.0f}"),
        ("calls, successful", f"{during['calls']}, {during['done']}"),
        ("503, with `Retry-After`", f"{during['shed']}, {during['shed_with_retry_after']}"),
        ("anything else", sum(during["wrong"].values())),
        ("added latency of successful ones, p50 and p99, ms", _both(during["added_ms"])),
        ("503 within, p99, ms", seen.to_json()["shed_ms_p99"]),
        (
            f"recovered at {seen.calm_rate:.0f}/s after, s",
            "never" if recovered is None else recovered,
        ),
    ]
    return table(("overload", ""), rows)


def cores(by_role: dict[str, float]) -> str:
    """Return the processors that each role kept busy."""
    return ", ".join(f"{role} {busy}" for role, busy in by_role.items() if role != "of")


def _both(spread: dict[str, float]) -> str:
    return f"{spread['p50']:.0f}, {spread['p99']:.0f}"
