"""`bountycoder usage check` as an operator runs it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from sqlalchemy import text

from core.config.settings import Settings
from models.database.base import SessionFactory
from models.jobs.job import JobState
from tests.support.cli.in_process import run_in_process
from tests.support.factories.batches import add_batch
from tests.support.factories.rows import add_job, add_key
from tests.support.factories.usage import NOON, add_usage
from tests.support.processes import CLI, bare_environment, run

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def check(base_settings: Settings, database: SessionFactory) -> Run:
    """A function that checks a database with the usage of ten jobs."""
    with database.begin() as session:
        key = add_key(session)
        for _ in range(10):
            add_usage(session, key)

    def check(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = base_settings.to_environment()
        return run_in_process("usage", "check", *arguments, environment=environment)

    return check


@pytest.mark.usefixtures("check")
def test_a_service_with_right_counts_passes(base_settings: Settings) -> None:
    environment = {**bare_environment(), **base_settings.to_environment()}

    done = run([*CLI, "usage", "check"], environment=environment)

    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "jobs, usage, roll-ups and batches agree\n",
        "",
    )


def test_differences_are_counted_and_the_first_are_printed(
    check: Run, database: SessionFactory
) -> None:
    with database.begin() as session:
        key = add_key(session)
        for _ in range(5):
            add_job(session, key, state=JobState.SUCCEEDED, started_at=NOON, finished_at=NOON)
        add_batch(session, key, lines=2, succeeded=1)
        session.execute(text("update usage_hourly set requests = requests + 1"))

    done = check("--print", "2")

    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith("gen_")
    assert lines[0].endswith(": has no usage, although it had begun")
    assert lines[2] == "… and 3 more"
    assert lines[3].startswith("key_")
    assert lines[3].endswith("2026-11-01T12Z m: the roll-up has requests 11, rows 10")
    assert lines[4].startswith("batch_")
    assert lines[4].endswith(": the batch has succeeded 1, lines 0")
    assert lines[5:] == ["7 differences"]


def test_only_the_given_hours_are_checked(check: Run, database: SessionFactory) -> None:
    with database.begin() as session:
        session.execute(text("delete from usage"))

    assert check("--from", "2026-11-01T13:00Z").returncode == 0
    assert check("--from", "2026-11-01", "--to", "2026-11-02").returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [("--from", "soon"), ("--to", "2026-11-01T12:30Z"), ("--from", "0001-01-01T00:00+10:00")],
)
def test_a_wrong_time_is_rejected(check: Run, arguments: tuple[str, str]) -> None:
    done = check(*arguments)

    assert done.returncode == 2
    assert arguments[1] in done.stderr


def test_a_time_out_is_a_clear_error(check: Run, database: SessionFactory) -> None:
    with database() as session:
        session.execute(text("lock table jobs in access exclusive mode"))

        done = check("--timeout", "0.2")

    assert done.returncode == 1
    assert done.stderr.startswith("bountycoder: the database does not respond: ")
    assert len(done.stderr.splitlines()) == 1
