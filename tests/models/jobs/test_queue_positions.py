"""A job's place in a line of any length, without counting the line each time."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from core.config.settings import Settings
from core.queueing.names import QueueName
from models.database.base import SessionFactory, open_database
from models.database.prepared import Statements
from models.jobs.job import Job, JobState
from models.jobs.queue_positions import KEEP_SECONDS, STEP, QueuePositions
from tests.support.factories.limit_key import Clock
from tests.support.factories.rows import add_job, add_key

WAITING = 2 * STEP + 50


@pytest.fixture
def line(database: SessionFactory) -> list[Job]:
    """Jobs of one queue, the first in line first, and one of the other before them all."""
    with database.begin() as session:
        key = add_key(session)
        add_job(session, key, queue=QueueName.BULK)
        return [add_job(session, key) for _ in range(WAITING)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def places(base_settings: Settings, clock: Clock) -> QueuePositions:
    engine = open_database(base_settings, is_autocommit=True)
    return QueuePositions(Statements(engine, max_idle=1), clock=clock)


@pytest.mark.parametrize("place", [0, 1, STEP - 2, STEP - 1, STEP, 2 * STEP, WAITING - 1])
def test_a_place_is_the_number_of_jobs_before(
    line: list[Job], places: QueuePositions, place: int
) -> None:
    assert places.before(line[place]) == place


def test_a_long_line_is_looked_at_again_after_a_second(
    database: SessionFactory, line: list[Job], places: QueuePositions, clock: Clock
) -> None:
    assert places.before(line[-1]) == WAITING - 1

    with database.begin() as session:
        gone = [job.id for job in line[: STEP + 20]]
        session.execute(update(Job).where(Job.id.in_(gone)).values(state=JobState.CANCELLED))
    clock.now += KEEP_SECONDS

    assert places.before(line[-1]) == WAITING - 1 - STEP - 20


def test_a_short_line_is_counted_as_it_is_at_the_moment(
    database: SessionFactory, line: list[Job], places: QueuePositions
) -> None:
    with database.begin() as session:
        gone = [job.id for job in line[STEP - 1 :]]
        session.execute(update(Job).where(Job.id.in_(gone)).values(state=JobState.CANCELLED))
    assert places.before(line[STEP - 2]) == STEP - 2

    with database.begin() as session:
        gone = [job.id for job in line[: STEP // 2]]
        session.execute(update(Job).where(Job.id.in_(gone)).values(state=JobState.CANCELLED))

    assert places.before(line[STEP - 2]) == STEP // 2 - 2


def test_nobody_is_told_a_place_beyond_the_most(
    monkeypatch: pytest.MonkeyPatch, line: list[Job], places: QueuePositions
) -> None:
    monkeypatch.setattr("models.jobs.queue_positions.MAX_POSITION", 2 * STEP)

    assert [places.before(line[place]) for place in (2 * STEP - 1, -1)] == [2 * STEP - 1, 2 * STEP]
