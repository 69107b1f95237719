"""Statements of every job cost the same with any number of users, keys and jobs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, text

from models.database.base import SessionFactory, utc_now
from models.database.prepared import Prepared
from models.demo.data import DemoSize, insert_demo_data
from models.execution.claims import CLAIM
from models.execution.finish import FINISH_AT_ONCE
from models.jobs.inserts import INSERT

SIZE = DemoSize(users=3000, keys=3000, jobs=20_000, days=3)
READ_WHOLE = re.compile(r"Seq Scan on (users|api_keys|jobs|usage\w*)\b")


@pytest.fixture
def connection(database: SessionFactory) -> Iterator[Connection]:
    """A connection to a database with rows in every table, and with statistics."""
    with database.begin() as session:
        insert_demo_data(session, SIZE, now=utc_now(), password_hash="none", model="m")
    with database.begin() as session:
        session.execute(text("analyze"))
    with database() as session:
        yield session.connection()


@pytest.mark.system
def test_no_table_is_read_whole(connection: Connection) -> None:
    """A generic plan estimates ten rows for an array and a hundred for JSON, for any values."""
    for statement in (INSERT, CLAIM, FINISH_AT_ONCE):
        plan = plan_of(connection, statement)

        assert "Index Scan" in plan
        assert not READ_WHOLE.findall(plan), plan


def plan_of(connection: Connection, statement: Prepared) -> str:
    """Return the generic plan of a statement."""
    values = ", ".join(f"null::{kind}" for kind in statement.types.split(","))
    with connection.connection.cursor() as cursor:
        cursor.execute("set local plan_cache_mode = force_generic_plan")
        cursor.execute(f"prepare planned ({statement.types}) as {statement.sql}")
        cursor.execute(f"explain execute planned ({values})")
        plan = "\n".join(line for (line,) in cursor.fetchall())
        cursor.execute("deallocate planned")  # it would outlive the transaction
    return plan
