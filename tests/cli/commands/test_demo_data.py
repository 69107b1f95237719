"""`bountycoder demo-data`, whose data fill the pages."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from sqlalchemy import func, select, text

from core.config.settings import Settings
from core.passwords.hashing import password_matches
from models.accounts.api_key import ApiKey
from models.accounts.user import User
from models.database.base import SessionFactory
from models.jobs.job import Job
from models.schema import metadata
from tests.support.cli.in_process import run_in_process
from tests.support.factories.rows import add_job
from tests.support.processes import CLI, bare_environment, run

SMALL = ("--users", "30", "--keys", "60", "--jobs", "3000", "--days", "9")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def bountycoder(base_settings: Settings, database: SessionFactory) -> Run:
    """A function that runs a command in this process, on an empty database."""

    def bountycoder(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return run_in_process(*arguments, environment={**base_settings.to_environment(), **changes})

    return bountycoder


def test_demo_data_agree_have_ended_and_share_one_password(
    base_settings: Settings, bountycoder: Run, database: SessionFactory
) -> None:
    environment = {**bare_environment(), **base_settings.to_environment()}

    done = run([*CLI, "demo-data", *SMALL, "--password", "a password"], environment=environment)

    assert done.returncode == 0, done.stderr
    with database() as session:
        counts = [
            session.scalar(select(func.count()).select_from(table)) for table in (User, ApiKey, Job)
        ]
        by_state = session.execute(select(Job.state, func.count()).group_by(Job.state))
        states = {state: count for state, count in by_state}
        latest = session.scalar(select(func.now() - func.max(Job.finished_at)))
        user = session.scalars(select(User).limit(1)).one()
        references = set(
            session.scalars(text("select conname from pg_constraint where contype = 'f'"))
        )
    assert counts[:2] == [30, 60]
    assert counts[2] == pytest.approx(3000, rel=0.02)
    assert set(states) == {"succeeded", "failed", "cancelled", "expired"}
    assert states["succeeded"] > 0.9 * counts[2]
    assert 0 <= latest.total_seconds() < 3600
    assert password_matches(user.password_hash, "a password")
    assert {
        key.name for table in metadata.sorted_tables for key in table.foreign_key_constraints
    } == references
    checked = bountycoder("usage", "check")
    assert (checked.returncode, checked.stdout) == (0, "jobs, usage, roll-ups and batches agree\n")


def test_a_database_with_jobs_gets_demo_data_only_by_force(
    bountycoder: Run, database: SessionFactory
) -> None:
    with database.begin() as session:
        add_job(session)

    refused = bountycoder("demo-data", *SMALL)
    forced = bountycoder("demo-data", *SMALL, "--force")

    assert (refused.returncode, refused.stdout) == (1, "")
    assert "this database has jobs" in refused.stderr
    assert forced.returncode == 0, forced.stderr
    assert bountycoder("usage", "check").returncode == 0


def test_production_gets_no_demo_data(bountycoder: Run) -> None:
    changes = {"APP_ENV": "production", "ADMIN_PASSWORD": "another one 99", "ADMIN_EMAIL": "a@b.cc"}

    refused = bountycoder("demo-data", *SMALL, "--force", **changes)

    assert refused.returncode == 1
    assert "production" in refused.stderr


@pytest.mark.parametrize("arguments", [("--jobs", "0"), ("--users", "x"), ("--password", "short")])
def test_a_wrong_argument_is_rejected(bountycoder: Run, arguments: tuple[str, str]) -> None:
    assert bountycoder("demo-data", *arguments).returncode == 2
