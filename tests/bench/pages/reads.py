"""Measures each read of the admin pages in a busy database: time and number of statements.

python -m tests.bench.pages.reads [--jobs 1000000] [--rounds 20] [--explain] [--keep DIR]
DATABASE_URL names a database that has demo data. Without it, a new one is made and kept in DIR.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import event, select

from core.config.settings import Settings
from models.batches.batch import Batch, BatchState
from models.database.base import Session, open_database, sessions, utc_now
from models.demo.data import DemoSize
from models.jobs.job import Job, JobState
from models.pages.activity import ActivityFilter, list_actions, list_activity
from models.pages.batches import BatchFilter, list_batch_page, list_lines
from models.pages.customers import CustomerSort, list_customers
from models.pages.dashboard import (
    SeriesStep,
    read_last_hour,
    read_periods,
    read_series,
    read_totals,
)
from models.pages.jobs import JobFilter, JobSource, count_open_jobs, list_job_page
from models.pages.keys import KeySort, KeyStatus, list_key_page
from models.usage.report import (
    UsageGroup,
    UsageScope,
    list_usage,
    page_usage,
    sum_usage,
)
from tests.bench.servers import filled_servers

BUDGET_MS = 60.0
LIMIT = 50

Read = Callable[[Session], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=DemoSize().jobs)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--explain", action="store_true", help="print the plans of reads over the budget"
    )
    parser.add_argument("--keep", type=Path, help="directory that keeps the data")
    args = parser.parse_args()
    with _filled(DemoSize(jobs=args.jobs), args.keep) as settings:
        engine = open_database(settings)
        statements: list[tuple[str, Any]] = []
        event.listen(
            engine,
            "before_cursor_execute",
            lambda c, cursor, statement, values, x, many: statements.append((statement, values)),
        )
        print(f"{'':44}{'p50 ms':>9}{'p95 ms':>9}{'max ms':>9}{'statements':>12}")
        for name, read in _reads(sessions(engine)):
            taken = []
            for _ in range(args.rounds):
                statements.clear()
                with sessions(engine)() as session:
                    began = time.perf_counter()
                    read(session)
                    taken.append((time.perf_counter() - began) * 1000)
            p95 = statistics.quantiles(taken, n=20)[-1]
            row = (statistics.median(taken), p95, max(taken))
            mark = "  over" if row[0] > BUDGET_MS else ""
            print(f"{name:44}{''.join(f'{ms:9.1f}' for ms in row)}{len(statements):12}{mark}")
            if mark and args.explain:
                _explain(engine, list(statements))
        engine.dispose()


@contextmanager
def _filled(size: DemoSize, keep: Path | None) -> Iterator[Settings]:
    if os.environ.get("DATABASE_URL"):
        yield Settings.from_environment(os.environ)
        return
    with filled_servers(size, keep) as (settings, _):
        yield settings


def _explain(engine: Any, statements: list[tuple[str, Any]]) -> None:
    with engine.connect() as connection:
        for statement, values in statements:
            plan = connection.exec_driver_sql(f"explain (analyze) {statement}", values)
            print("\n".join(f"    {line}" for (line,) in plan))


@dataclass(frozen=True, slots=True)
class _Moment:
    """The time of the reads, and the end of its hour."""

    now: datetime
    until: datetime


def _reads(database: Any) -> Iterator[tuple[str, Read]]:
    """Yield each read with its name, for all users and for the one with most usage."""
    now = utc_now()
    at = _Moment(now, now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1))
    with database() as session:
        wanted = UsageScope(at.until - timedelta(days=60), at.until)
        heavy = page_usage(session, wanted, UsageGroup.USER, limit=1).rows[0].group
        key = page_usage(session, wanted, UsageGroup.KEY, limit=1).rows[0].group
        largest = session.scalar(select(Batch.id).order_by(Batch.total.desc()).limit(1))
        oldest = session.scalar(select(Job.id).order_by(Job.id).limit(1))
    for who, user in (("all", None), ("heaviest user", heavy)):
        for reads in (_dashboard_reads, _job_reads, _key_reads, _usage_reads):
            for name, read in reads(at, user):
                yield f"{name}, {who}", read
        back = JobFilter(user)
        yield (
            f"jobs back from the oldest, {who}",
            lambda s, w=back: list_job_page(s, w, before=oldest, limit=LIMIT),
        )
    of_key = JobFilter(key_id=key)
    yield "jobs of the heaviest key", lambda s: list_job_page(s, of_key, limit=LIMIT)
    yield "lines of a batch", lambda s: list_lines(s, largest, after=1000, limit=LIMIT)
    yield from _admin_reads(at)


def _dashboard_reads(at: _Moment, user: Any) -> Iterator[tuple[str, Read]]:
    yield "totals", lambda s: read_totals(s, at.now, user_id=user)
    yield "periods", lambda s: read_periods(s, at.now, user_id=user)
    for step, count in ((SeriesStep.HOUR, 24), (SeriesStep.DAY, 30)):
        yield (
            f"series by {step}",
            lambda s, st=step, n=count: read_series(s, at.now, st, count=n, user_id=user),
        )
    yield "last hour", lambda s: read_last_hour(s, at.now, user_id=user)
    yield "job counts", lambda s: count_open_jobs(s, user_id=user)


def _job_reads(at: _Moment, user: Any) -> Iterator[tuple[str, Read]]:
    day = JobFilter(user, since=at.now - timedelta(30), until=at.now - timedelta(29))
    filters = {
        **{f"jobs {state or ''}": JobFilter(user, state=state) for state in (None, *JobState)},
        **{
            f"jobs of batches {state or ''}": JobFilter(user, source=JobSource.BATCH, state=state)
            for state in (None, *JobState)
        },
        "jobs of a day": day,
    }
    for name, wanted in filters.items():
        yield name, lambda s, w=wanted: list_job_page(s, w, limit=LIMIT)
    expired = BatchFilter(user, state=BatchState.EXPIRED)
    yield "batches", lambda s: list_batch_page(s, expired, limit=LIMIT)


def _key_reads(at: _Moment, user: Any) -> Iterator[tuple[str, Read]]:
    for sort in KeySort:
        yield (
            f"keys by {sort}",
            lambda s, by=sort: list_key_page(s, user_id=user, now=at.now, sort=by, limit=LIMIT),
        )


def _usage_reads(at: _Moment, user: Any) -> Iterator[tuple[str, Read]]:
    for days in (1, 31, 365):
        w = UsageScope(at.until - timedelta(days=days), at.until, user_id=user)
        yield f"usage sum of {days} days", lambda s, w=w: sum_usage(s, w)
        for by in UsageGroup:
            yield (
                f"usage by {by} of {days} days",
                lambda s, w=w, by=by: list_usage(s, w, by, after=None, limit=LIMIT),
            )
        yield (
            f"top users of {days} days",
            lambda s, w=w: page_usage(s, w, UsageGroup.USER, limit=LIMIT).rows,
        )


def _admin_reads(at: _Moment) -> Iterator[tuple[str, Read]]:
    for sort in CustomerSort:
        yield (
            f"customers by {sort}",
            lambda s, by=sort: list_customers(s, now=at.now, sort=by, limit=LIMIT),
        )
    yield "customers found", lambda s: list_customers(s, now=at.now, search="wei.ch", limit=LIMIT)
    expired = KeyStatus.EXPIRED
    yield (
        "expired keys found",
        lambda s: list_key_page(
            s, user_id=None, now=at.now, search="wei", status=expired, limit=LIMIT
        ),
    )
    yield "actions", list_actions
    for name, entries in {
        "activity": ActivityFilter(),
        "activity key.rotate": ActivityFilter(action="key.rotate"),
        "activity key.": ActivityFilter(action_group="key."),
        "activity none.": ActivityFilter(action_group="none."),
        "activity from an address": ActivityFilter(address="192.0.2.7"),
    }.items():
        yield name, lambda s, w=entries: list_activity(s, w, limit=LIMIT)


if __name__ == "__main__":
    main()
