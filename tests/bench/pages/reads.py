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
from datetime import timedelta
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


def _reads(database: Any) -> Iterator[tuple[str, Read]]:
    now = utc_now()
    until = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    with database() as session:
        wanted = UsageScope(until - timedelta(days=60), until)
        heavy = page_usage(session, wanted, UsageGroup.USER, limit=1).rows[0].group
        key = page_usage(session, wanted, UsageGroup.KEY, limit=1).rows[0].group
        largest = session.scalar(select(Batch.id).order_by(Batch.total.desc()).limit(1))
        oldest = session.scalar(select(Job.id).order_by(Job.id).limit(1))
    for who, user in (("all", None), ("heaviest user", heavy)):
        yield f"totals, {who}", lambda s, u=user: read_totals(s, now, user_id=u)
        yield f"periods, {who}", lambda s, u=user: read_periods(s, now, user_id=u)
        for step, count in ((SeriesStep.HOUR, 24), (SeriesStep.DAY, 30)):
            yield (
                f"series by {step}, {who}",
                lambda s, u=user, st=step, n=count: read_series(s, now, st, count=n, user_id=u),
            )
        yield f"last hour, {who}", lambda s, u=user: read_last_hour(s, now, user_id=u)
        yield f"job counts, {who}", lambda s, u=user: count_open_jobs(s, user_id=u)
        for state in (None, *JobState):
            jobs = JobFilter(user_id=user, state=state)
            yield (
                f"jobs {state or ''}, {who}",
                lambda s, w=jobs: list_job_page(s, w, limit=LIMIT),
            )
        for name, jobs in (
            *(
                (f"of batches {state or ''}", JobFilter(user, source=JobSource.BATCH, state=state))
                for state in (None, *JobState)
            ),
            (
                "of a day",
                JobFilter(user_id=user, since=now - timedelta(30), until=now - timedelta(29)),
            ),
        ):
            yield f"jobs {name}, {who}", lambda s, w=jobs: list_job_page(s, w, limit=LIMIT)
        yield (
            f"jobs back from the oldest, {who}",
            lambda s, u=user: list_job_page(s, JobFilter(u), before=oldest, limit=LIMIT),
        )
        yield (
            f"batches, {who}",
            lambda s, u=user: list_batch_page(
                s, BatchFilter(u, state=BatchState.EXPIRED), limit=LIMIT
            ),
        )
        for sort in KeySort:
            yield (
                f"keys by {sort}, {who}",
                lambda s, u=user, by=sort: list_key_page(
                    s, user_id=u, now=now, sort=by, limit=LIMIT
                ),
            )
        for days in (1, 31, 365):
            w = UsageScope(until - timedelta(days=days), until, user_id=user)
            yield f"usage sum of {days} days, {who}", lambda s, w=w: sum_usage(s, w)
            for by in UsageGroup:
                yield (
                    f"usage by {by} of {days} days, {who}",
                    lambda s, w=w, by=by: list_usage(s, w, by, after=None, limit=LIMIT),
                )
            yield (
                f"top users of {days} days, {who}",
                lambda s, w=w: page_usage(s, w, UsageGroup.USER, limit=LIMIT).rows,
            )
    for sort in CustomerSort:
        yield (
            f"customers by {sort}",
            lambda s, by=sort: list_customers(s, now=now, sort=by, limit=LIMIT),
        )
    yield "customers found", lambda s: list_customers(s, now=now, search="wei.ch", limit=LIMIT)
    yield (
        "expired keys found",
        lambda s: list_key_page(
            s, user_id=None, now=now, search="wei", status=KeyStatus.EXPIRED, limit=LIMIT
        ),
    )
    yield (
        "jobs of the heaviest key",
        lambda s: list_job_page(s, JobFilter(key_id=key), limit=LIMIT),
    )
    yield "lines of a batch", lambda s: list_lines(s, largest, after=1000, limit=LIMIT)
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
