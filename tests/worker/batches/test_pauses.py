"""The dispatcher pauses a batch while its key or user is disabled."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import redis

from core.limits.limiter import Limiter
from models.accounts.api_key import ApiKey
from models.accounts.user import User
from models.database.base import SessionFactory, utc_now
from models.execution.finish import finish_jobs
from models.jobs.job import JobState
from models.jobs.outcome import JobOutcome
from models.usage.limits import read_key_use
from tests.support.factories.batches import batch_of, lines_by_state, new_batch
from tests.support.factories.rows import claim_jobs
from tests.support.worker.batch_runs import USED, new_key, queue_of, run_to_the_end, sums_agree


def test_a_batch_of_a_disabled_key_waits_and_continues(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool]
) -> None:
    key = new_key(database, is_active=False)
    batch_id = new_batch(database, key, lines=3)
    dispatch()
    assert queue_of(redis_client) == []

    with database.begin() as session:
        session.get_one(ApiKey, key.id).is_active = True
    run_to_the_end(database, redis_client, dispatch, batch_id)

    with database() as session:
        assert batch_of(session, batch_id).succeeded == 3


@pytest.mark.parametrize("owner", ["key", "user"])
def test_a_batch_pauses_while_its_key_or_user_is_disabled_and_then_restarts_its_lines(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool], owner: str
) -> None:
    def set_active(is_active: bool) -> None:
        with database.begin() as session:
            if owner == "key":
                session.get_one(ApiKey, key.id).is_active = is_active
            else:
                session.get_one(User, key.user_id).is_active = is_active

    key = new_key(database)
    batch_id = new_batch(database, key, lines=20)
    dispatch()
    with database.begin() as session:
        running = claim_jobs(
            session, queue_of(redis_client)[:4], worker_id="w", lease=timedelta(seconds=30)
        )
    assert len(Limiter(redis_client).in_flight(key.id)) == 10

    set_active(False)
    dispatch()

    with database.begin() as session:
        assert lines_by_state(session, batch_id) == {"held": 20}
        assert Limiter(redis_client).in_flight(key.id) == {}
        done = JobOutcome(JobState.SUCCEEDED, prompt_tokens=5, completion_tokens=3)
        assert finish_jobs(session, [(job, done) for job in running], worker_id="w") == []
    set_active(True)
    run_to_the_end(database, redis_client, dispatch, batch_id)
    with database() as session:
        assert batch_of(session, batch_id).succeeded == 20
        assert read_key_use(session, key.id, utc_now() - timedelta(days=1)).used_tokens == 20 * USED
        assert sums_agree(session)
