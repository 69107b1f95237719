"""`bountycoder usage check`: compare jobs, usage, roll-ups and batches, row for row."""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Iterator
from datetime import UTC, datetime

from cli.commands.database import translating_database_errors
from core.calendar import hour_of
from core.config.settings import Settings
from models.database.base import open_database, sessions
from models.maintenance.consistency import Difference, begin_check, compare_batches, compare_jobs
from models.maintenance.rollup_consistency import compare_closed, compare_roll_ups

#: Default number of printed differences; all are counted.
PRINTED = 100
TIMEOUT_SECONDS = 1800.0


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    check = actions.add_parser(
        "check", help="compare jobs, usage, roll-ups and batches, row for row"
    )
    time = "such as 2026-11-01 or 2026-11-01T13:00Z; whole hours, UTC"
    check.add_argument("--from", dest="since", type=_hour, metavar="TIME", help=time)
    check.add_argument(
        "--to", dest="until", type=_hour, metavar="TIME", help=f"not included; {time}"
    )
    check.add_argument("--print", dest="max_printed", type=int, default=PRINTED, metavar="N")
    check.add_argument(
        "--timeout", type=float, default=TIMEOUT_SECONDS, metavar="SECONDS", help="of one statement"
    )
    check.set_defaults(run=_check)


def check_usage(
    settings: Settings,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    max_printed: int = PRINTED,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> int:
    """Print the differences and return their number.

    Args:
        since: start of the time range, a whole hour; default: the beginning.
        until: end of the time range, exclusive; default: now.
        timeout_seconds: limit of each statement.
    """
    engine = open_database(settings)
    times = {"since": since, "until": until}
    try:
        with translating_database_errors(), sessions(engine)() as session:
            begin_check(session, timeout_seconds=timeout_seconds)
            found = sum(
                _print(differences, at_most=max_printed)
                for differences in (
                    compare_jobs(session, **times),
                    compare_roll_ups(session, **times),
                    compare_batches(session, **times),
                    compare_closed(session),
                )
            )
    finally:
        engine.dispose()
    print(f"{found} differences" if found else "jobs, usage, roll-ups and batches agree")
    return found


def _check(args: argparse.Namespace) -> int:
    """Return exit code 1 if there are differences."""
    found = check_usage(
        Settings.from_environment(os.environ),
        since=args.since,
        until=args.until,
        max_printed=args.max_printed,
        timeout_seconds=args.timeout,
    )
    return 1 if found else 0


def _print(differences: Iterator[Difference], *, at_most: int) -> int:
    """Print the first differences and return the number of all."""
    first = list(itertools.islice(differences, max(0, at_most)))
    for difference in first:
        print(f"{difference.subject}: {difference.problem}")
    more = sum(1 for _ in differences)
    if more:
        print(f"… and {more} more")
    return len(first) + more


def _hour(given: str) -> datetime:
    """Return the time as one in UTC; roll-ups can only be compared in whole hours."""
    try:
        moment = datetime.fromisoformat(given)
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{given} is not a time") from None
    if hour_of(moment) != moment:
        raise argparse.ArgumentTypeError(f"{given} is not a whole hour")
    return moment
