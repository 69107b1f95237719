"""Finds the highest load within a bound, and sends twice as much. `python -m tests.bench.load`

The whole service runs on this machine: PostgreSQL, Valkey, two API processes, workers with the echo
engine at a stated pace, and this generator. 10,000 users with a key each send a mix of calls at
independent random times. The search finds the highest rate of arrivals at which p99 of the added
latency (beyond the engine's own time) stays within the bound. Then the generator sends twice that
rate for a while, and half of it until the service has recovered.

`--soak SECONDS` sends half the highest rate for that time instead, and reports growth.
`--rate` states the highest rate, so that there is no search.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from tests.bench.load.deployment import Deployment, deployed
from tests.bench.load.logs import complaints
from tests.bench.load.mix import Mix
from tests.bench.load.overload import overload
from tests.bench.load.search import Step, highest_rate, trier
from tests.bench.load.soak import soak, soak_table
from tests.bench.load.tables import kinds_table, overload_table, steps_table


def main() -> None:
    args = _arguments()
    with deployed(args.users, workers=args.workers, pace=args.pace) as running:
        report = asyncio.run(_measure(running, args))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


async def _measure(running: Deployment, args: argparse.Namespace) -> dict[str, Any]:
    load = running.load(Mix(running.secrets, seed=args.seed))
    report: dict[str, Any] = {
        name: getattr(args, name) for name in ("users", "workers", "pace", "bound_ms", "seed")
    }
    highest = args.rate
    if not highest:
        trying = trier(load, running.processes, seconds=args.step_seconds, bound_ms=args.bound_ms)
        highest, steps = await highest_rate(trying, start=args.start, report=_print_step)
        report["steps"] = [step.to_json() for step in steps]
        print(f"\n{steps_table(steps)}\n")
        if not highest:
            raise SystemExit(f"p99 is over {args.bound_ms} ms at every rate")
        best = next(step for step in steps if step.rate == highest and step.is_within)
        print(f"highest rate with p99 within {args.bound_ms:.0f} ms: {highest:.0f} arrivals/s\n")
        print(f"{kinds_table(best.tally)}\n", flush=True)
    report["highest_rate"] = round(highest, 1)
    if args.soak:
        seen_soak = await soak(
            load, running.processes, rate=highest / 2, seconds=args.soak, every=args.sample_seconds
        )
        report["soak"] = seen_soak.to_json()
        print(soak_table(seen_soak))
    else:
        seen = await overload(
            load,
            running.processes,
            rate=2 * highest,
            calm_rate=highest / 2,
            seconds=args.overload_seconds,
            bound_ms=args.bound_ms,
        )
        report["overload"] = seen.to_json()
        print(f"{overload_table(seen)}\n\n{kinds_table(seen.during)}")
    report["log"] = complaints(running.service.directory)
    print(
        "\nin the logs: " + (", ".join(f"{m} ({n})" for m, n in report["log"].items()) or "nothing")
    )
    return report


def _print_step(step: Step) -> None:
    p99, mark = step.tally.added_ms(99), "within" if step.is_within else "over"
    print(f"{step.rate:.0f} arrivals/s: p99 {p99:.0f} ms, {mark}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--pace", type=float, default=40.0, help="tokens/s of each stream")
    parser.add_argument("--bound-ms", type=float, default=250.0, help="of p99, beyond the engine's")
    parser.add_argument("--start", type=float, default=40.0, help="first rate tried, arrivals/s")
    parser.add_argument("--step-seconds", type=float, default=8.0, help="of each rate tried")
    parser.add_argument("--overload-seconds", type=float, default=30.0)
    parser.add_argument("--rate", type=float, help="the highest rate, if it is known")
    parser.add_argument("--soak", type=float, metavar="SECONDS")
    parser.add_argument("--sample-seconds", type=float, default=60.0, help="of a soak")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write all figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
