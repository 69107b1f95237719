"""Fills a database with two months of usage, to try and to measure the pages.

A few statements create everything inside PostgreSQL. The data is consistent (`usage check` reports
no difference). All jobs have ended, so no worker runs any. The secrets of the keys are unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, func, select, text
from sqlalchemy.orm import Session
from sqlalchemy.schema import AddConstraint, DropConstraint

from core.histogram import BOUNDS
from models.demo import statements
from models.jobs.job import Job
from models.schema import metadata
from models.usage.rollup_jobs import reopen_usage
from models.usage.usage import Usage, UsageHourly

#: The limit of one statement; the largest writes a million rows.
TIMEOUT_SECONDS = 900
#: The planner needs statistics of these tables, and index-only scans their visibility maps.
_TABLES = (
    "users",
    "api_keys",
    "batches",
    "jobs",
    "usage",
    "usage_hourly",
    "usage_daily",
    "usage_monthly",
    "usage_total_hourly",
    "usage_total_daily",
    "audit_log",
    "webhook_deliveries",
)


@dataclass(frozen=True, slots=True)
class DemoSize:
    """How many rows to create. A seventh of the jobs are batch lines."""

    users: int = 10_000
    keys: int = 20_000
    jobs: int = 1_000_000
    days: int = 60

    @property
    def batches(self) -> int:
        return max(1, self.jobs // 500)

    @property
    def lines(self) -> int:
        return max(self.batches, self.jobs // 7)

    @property
    def audit_entries(self) -> int:
        return max(1, self.jobs // 10)


def has_jobs(session: Session) -> bool:
    return session.query(Job.id).limit(1).first() is not None


def insert_demo_data(
    session: Session, size: DemoSize, *, now: datetime, password_hash: str, model: str
) -> None:
    """Add accounts, batches, jobs, usage, webhooks and activity before `now`.

    The accounts are users and their keys. All users share one password. The tables are locked until
    the transaction ends.
    """
    values = {
        "users": size.users,
        "keys": size.keys,
        "batches": size.batches,
        "lines": size.lines,
        "jobs": max(0, size.jobs - size.lines),
        "audit_entries": size.audit_entries,
        "days": size.days,
        "now": now,
        "password_hash": password_hash,
        "model": model,
        "bounds": list(BOUNDS),
    }
    connection = session.connection()
    connection.exec_driver_sql(f"set local statement_timeout = '{TIMEOUT_SECONDS}s'")
    connection.exec_driver_sql("set local work_mem = '256MB'")
    with _unchecked(connection):
        for statement in statements.ALL:
            connection.exec_driver_sql(statement, values)
    first = session.scalar(select(func.min(UsageHourly.hour)))
    if first is not None:  # the roll-ups of past hours lack the new usage
        reopen_usage(session, first)


@contextmanager
def _unchecked(connection: Connection) -> Iterator[None]:
    """Check the foreign keys of the large tables at the end, all together.

    Checking them row by row takes as long as everything else.
    """
    references = [
        reference
        for table in (Job, Usage, UsageHourly)
        for reference in metadata.tables[table.__tablename__].foreign_key_constraints
    ]
    for reference in references:
        connection.execute(DropConstraint(reference))
    yield
    for reference in references:
        connection.execute(AddConstraint(reference))


def vacuum_demo_tables(engine: Engine) -> None:
    """Vacuum and analyze the tables: PostgreSQL's plans depend on their statistics."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"set statement_timeout = '{TIMEOUT_SECONDS}s'"))
        for table in _TABLES:
            connection.execute(text(f"vacuum (analyze) {table}"))
        connection.execute(text("reset statement_timeout"))
