"""A job's position in a queue of any length, without a count of the queue each time."""

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
def queue(database: SessionFactory) -> list[Job]:
    """The jobs of one queue in its order. An older job waits in the other queue."""
    with database.begin() as session:
        key = add_key(session)
        add_job(session, key, queue=QueueName.BULK)
        return [add_job(session, key) for _ in range(WAITING)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def positions(base_settings: Settings, clock: Clock) -> QueuePositions:
    engine = open_database(base_settings, is_autocommit=True)
    return QueuePositions(Statements(engine, max_idle=1), clock=clock)


@pytest.mark.parametrize("position", [0, 1, STEP - 2, STEP - 1, STEP, 2 * STEP, WAITING - 1])
def test_a_position_is_the_number_of_jobs_before(
    queue: list[Job], positions: QueuePositions, position: int
) -> None:
    assert positions.jobs_before(queue[position]) == position


def test_marks_of_a_long_queue_are_refreshed_after_a_second(
    database: SessionFactory, queue: list[Job], positions: QueuePositions, clock: Clock
) -> None:
    assert positions.jobs_before(queue[-1]) == WAITING - 1

    with database.begin() as session:
        gone = [job.id for job in queue[: STEP + 20]]
        session.execute(update(Job).where(Job.id.in_(gone)).values(state=JobState.CANCELLED))
    clock.now += KEEP_SECONDS

    assert positions.jobs_before(queue[-1]) == WAITING - 1 - STEP - 20


def test_a_short_queue_has_current_positions(
    database: SessionFactory, queue: list[Job], positions: QueuePositions
) -> None:
    with database.begin() as session:
        gone = [job.id for job in queue[STEP - 1 :]]
        session.execute(update(Job).where(Job.id.in_(gone)).values(state=JobState.CANCELLED))
    assert positions.jobs_before(queue[STEP - 2]) == STEP - 2

    with database.begin() as session:
        gone = [job.id for job in queue[: STEP // 2]]
        session.execute(update(Job).where(Job.id.in_(gone)).values(state=JobState.CANCELLED))

    assert positions.jobs_before(queue[STEP - 2]) == STEP // 2 - 2


def test_positions_are_counted_up_to_a_maximum(
    monkeypatch: pytest.MonkeyPatch, queue: list[Job], positions: QueuePositions
) -> None:
    monkeypatch.setattr("models.jobs.queue_positions.MAX_POSITION", 2 * STEP)

    assert [positions.jobs_before(queue[position]) for position in (2 * STEP - 1, -1)] == [
        2 * STEP - 1,
        2 * STEP,
    ]
