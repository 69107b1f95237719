"""The dispatcher releases, pauses and ends batch lines, and every sum agrees with the rows."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import redis
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from core.events.batch_events import publish_batch_change
from core.limits.limiter import Limiter
from core.queueing.broker import NAMESPACE, JobQueue
from core.queueing.names import QueueName
from models.accounts.api_key import ApiKey
from models.accounts.user import User, delete_user
from models.batches.cancellation import begin_expiries, request_batch_cancel
from models.database.base import Session, SessionFactory, utc_now
from models.execution.completion import record_ends
from models.execution.finish import finish_jobs
from models.jobs.job import Job, JobState
from models.jobs.outcome import JobOutcome
from models.maintenance.consistency import compare_batches, compare_jobs
from models.maintenance.rollup_consistency import compare_roll_ups
from models.usage.limits import ended_job, read_key_use
from tests.support.factories.batches import (
    REQUEST,
    add_batch,
    batch_of,
    have_workers,
    lines_by_state,
    new_batch,
    released,
)
from tests.support.factories.rows import add_key, add_user, claim_jobs
from tests.support.polling import wait_until
from worker.batches.dispatcher import Dispatcher
from worker.maintenance.limit_reconciler import LimitReconciler
from worker.maintenance.reaper import Reaper

#: Tokens that a line of `REQUEST` may need, and those that `run_queued` records for it.
WANTED = 15
USED = 8


@pytest.fixture
def dispatch(database: SessionFactory, redis_client: redis.Redis) -> Callable[[], bool]:
    """One pass of a dispatcher. The workers have 10 slots, so 10 lines may be on the queue."""
    have_workers(redis_client, places=10)
    return Dispatcher(sessions=database, client=redis_client).run_once


def queue_of(client: redis.Redis) -> list[UUID]:
    """Return the jobs on the bulk queue, in order."""
    ids: Any = client.lrange(f"{NAMESPACE}:{QueueName.BULK}", 0, -1)
    return [UUID(job_id.decode()) for job_id in ids]


def run_queued(database: SessionFactory, client: redis.Redis) -> int:
    """Run all jobs on the queue as a worker does; return their number."""
    name = f"{NAMESPACE}:{QueueName.BULK}"
    with client.pipeline(transaction=True) as pipe:  # no job may be sent in between
        found, _ = pipe.lrange(name, 0, -1).delete(name, f"{name}.msgs").execute()
    ids = [UUID(job_id.decode()) for job_id in found]
    with database.begin() as session:
        jobs = claim_jobs(session, ids, worker_id="w", lease=timedelta(seconds=30))
        done = JobOutcome(JobState.SUCCEEDED, prompt_tokens=5, completion_tokens=3)
        ended = finish_jobs(session, [(job, done) for job in jobs], worker_id="w")
        record_ends(session, ended)
    for job in map(ended_job, ended):
        Limiter(client).settle(job.api_key_id, job.id, job.used_tokens)
    return len(ended)


def run_to_the_end(
    database: SessionFactory, client: redis.Redis, dispatch: Callable[[], bool], *batch_ids: UUID
) -> None:
    """Dispatch and run lines until the batches are final."""
    for _ in range(200):
        dispatch()
        run_queued(database, client)
        with database() as session:
            if all(batch_of(session, batch_id).is_final for batch_id in batch_ids):
                return
    raise AssertionError("the batches do not end")


def sums_agree(session: Session) -> bool:
    """Return whether batches, jobs and roll-ups have the same sums."""
    checks = (compare_jobs, compare_roll_ups, compare_batches)
    return not [d for check in checks for d in check(session, since=None, until=None)]


def new_key(database: SessionFactory, **values: Any) -> ApiKey:
    with database.begin() as session:
        key = add_key(session)
        for name, value in values.items():
            setattr(key, name, value)
        return key


def month_of(database: SessionFactory, client: redis.Redis, key: ApiKey) -> tuple[int, int]:
    """Return the key's tokens of the month and its jobs in flight, as the API reports them."""
    with database() as session:
        state = Limiter(client).read(key, recall=lambda began: read_key_use(session, key.id, began))
    return state.month.used, state.in_flight.used


def test_lines_are_released_until_the_queue_is_long_enough(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool]
) -> None:
    batch_id = new_batch(database, lines=30)

    dispatch()
    dispatch()

    with database() as session:
        lines = released(session)
        assert lines_by_state(session, batch_id) == {"queued": 10, "held": 20}
        assert [job.line for job in lines] == list(range(1, 11))
        assert {job.charged_tokens for job in lines} == {WANTED}
        assert queue_of(redis_client) == [job.id for job in lines]
        assert batch_of(session, batch_id).started_at is not None


def test_without_a_ready_worker_nothing_is_released(
    database: SessionFactory, redis_client: redis.Redis
) -> None:
    batch_id = new_batch(database, lines=3)

    Dispatcher(sessions=database, client=redis_client).run_once()

    with database() as session:
        assert lines_by_state(session, batch_id) == {"held": 3}
        assert batch_of(session, batch_id).started_at is None


def test_a_large_batch_does_not_delay_a_small_one(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool]
) -> None:
    large = new_batch(database, lines=100)
    dispatch()
    small = new_batch(database, lines=5)
    run_queued(database, redis_client)

    dispatch()

    with database() as session:
        batch_of_job = {job.id: job.batch_id for job in session.scalars(select(Job))}
    order = [batch_of_job[job_id] for job_id in queue_of(redis_client)]
    assert order in ([small, large] * 5, [large, small] * 5)


def test_many_batches_of_one_key_have_one_share(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool]
) -> None:
    greedy, modest = new_key(database), new_key(database)
    for _ in range(9):
        new_batch(database, greedy, lines=20)
    new_batch(database, modest, lines=50)
    released_of: Counter[UUID] = Counter()

    for _ in range(4):
        dispatch()
        with database() as session:
            key_of_job = {job.id: job.api_key_id for job in session.scalars(select(Job))}
        released_of.update(key_of_job[job_id] for job_id in queue_of(redis_client))
        run_queued(database, redis_client)

    assert released_of == {greedy.id: 20, modest.id: 20}


def test_keys_alternate_when_one_line_fits(
    database: SessionFactory, redis_client: redis.Redis
) -> None:
    batch_ids = [new_batch(database, lines=4) for _ in range(5)]
    have_workers(redis_client, places=1)
    dispatcher = Dispatcher(sessions=database, client=redis_client)

    for _ in range(10):
        dispatcher.run_once()
        assert run_queued(database, redis_client) == 1

    with database() as session:
        assert [batch_of(session, b).succeeded for b in batch_ids] == [2] * 5


def test_parallel_dispatchers_release_each_line_once_and_within_the_bound(
    database: SessionFactory, redis_client: redis.Redis
) -> None:
    have_workers(redis_client, places=20)
    batch_ids = [new_batch(database, lines=60) for _ in range(3)]
    ran = 0
    dispatchers = [Dispatcher(sessions=database, client=redis_client) for _ in range(3)]
    must_stop = threading.Event()
    faults: list[BaseException] = []

    def dispatch_repeatedly(dispatcher: Dispatcher) -> None:
        try:
            while not must_stop.is_set():
                dispatcher.run_once()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=dispatch_repeatedly, args=[one]) for one in dispatchers]
    for thread in threads:
        thread.start()
    try:
        deadline = time.monotonic() + 30
        while ran < 180 and time.monotonic() < deadline and not faults:
            assert JobQueue(redis_client).length(QueueName.BULK) <= 20
            ran += run_queued(database, redis_client)
    finally:
        must_stop.set()
        for thread in threads:
            thread.join(20)

    assert faults == []
    with database() as session:
        assert [batch_of(session, b).state for b in batch_ids] == ["completed"] * 3
        assert {job.attempt for job in session.scalars(select(Job))} == {1}
        assert sums_agree(session)


def test_lines_that_were_released_and_not_sent_are_sent_by_the_reaper(
    database: SessionFactory, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_workers(redis_client, places=10)
    batch_id = new_batch(database, lines=12)
    dispatcher = Dispatcher(sessions=database, client=redis_client)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt  # the process ends between commit and send

    monkeypatch.setattr(JobQueue, "send_many", die)
    with pytest.raises(KeyboardInterrupt):
        dispatcher.run_once()
    monkeypatch.undo()
    assert queue_of(redis_client) == []
    another = Dispatcher(sessions=database, client=redis_client)
    another.run_once()  # released lines count as queued

    def reap(grace: timedelta) -> None:
        lease = timedelta(seconds=10)
        Reaper(
            sessions=database, client=redis_client, max_attempts=3, lease=lease, grace=grace
        ).reap()

    assert queue_of(redis_client) == []
    reap(timedelta(minutes=1))
    assert queue_of(redis_client) == []  # the dispatcher that released them may send them
    reap(timedelta(0))

    assert len(queue_of(redis_client)) == 10
    run_to_the_end(database, redis_client, another.run_once, batch_id)
    with database() as session:
        assert batch_of(session, batch_id).succeeded == 12
        assert sums_agree(session)


def test_an_emptied_valkey_releases_no_extra_lines(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool]
) -> None:
    key = new_key(database, monthly_token_limit=100_000)
    batch_id = new_batch(database, key, lines=25)
    dispatch()
    redis_client.flushall()
    have_workers(redis_client, places=10)

    dispatch()

    assert queue_of(redis_client) == []
    with database() as session:
        assert lines_by_state(session, batch_id) == {"queued": 10, "held": 15}
    lease = timedelta(seconds=10)
    Reaper(
        sessions=database, client=redis_client, max_attempts=3, lease=lease, grace=timedelta(0)
    ).reap()
    run_to_the_end(database, redis_client, dispatch, batch_id)
    with database() as session:
        assert batch_of(session, batch_id).succeeded == 25
        assert sums_agree(session)
    assert month_of(database, redis_client, key) == (25 * USED, 0)


def test_a_cancelled_batch_ends_with_nothing_running(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool]
) -> None:
    batch_id = new_batch(database, lines=30)
    dispatch()
    with database.begin() as session:
        request_batch_cancel(session, batch_id)

    dispatch()

    with database() as session:
        assert batch_of(session, batch_id).state == "cancelled"
        assert lines_by_state(session, batch_id) == {"cancelled": 30}
        assert sums_agree(session)
    assert run_queued(database, redis_client) == 0


@pytest.mark.parametrize("end", ["cancelled", "expired"])
def test_another_dispatcher_completes_the_end_of_a_batch(
    database: SessionFactory, redis_client: redis.Redis, end: str
) -> None:
    batch_id = new_batch(database, lines=4100)
    with database.begin() as session:
        if end == "cancelled":
            request_batch_cancel(session, batch_id)
        else:
            batch_of(session, batch_id).expires_at = utc_now() - timedelta(seconds=1)
            begin_expiries(session, [batch_id])

    assert Dispatcher(sessions=database, client=redis_client).run_once()  # and its process dies
    with database() as session:
        assert lines_by_state(session, batch_id) == {end: 2000, "held": 2100}
    another = Dispatcher(sessions=database, client=redis_client)
    while another.run_once():
        pass

    with database() as session:
        assert batch_of(session, batch_id).state == end
        assert lines_by_state(session, batch_id) == {end: 4100}
        assert sums_agree(session)


def test_running_lines_of_a_cancelled_batch_are_cancelled_and_count(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool]
) -> None:
    batch_id = new_batch(database, lines=30)
    dispatch()
    with database.begin() as session:
        running = claim_jobs(
            session, queue_of(redis_client)[:2], worker_id="w", lease=timedelta(seconds=30)
        )
        request_batch_cancel(session, batch_id)
    with redis_client.pubsub() as commands:
        commands.subscribe("job-requests")
        wait_until(lambda: (commands.get_message(timeout=1) or {}).get("type") == "subscribe", 20)
        dispatch()
        messages = [commands.get_message(timeout=2) for _ in running]

    received = {str(message["data"]) for message in messages if message}
    assert len(received) == 2 and all("cancel" in text for text in received)
    with database.begin() as session:
        assert batch_of(session, batch_id).state == "cancelling"
        partial = JobOutcome(JobState.CANCELLED, prompt_tokens=5, completion_tokens=1)
        ended = finish_jobs(session, [(job, partial) for job in running], worker_id="w")
        record_ends(session, ended)
    with database() as session:
        batch = batch_of(session, batch_id)
        assert (batch.state, batch.cancelled, batch.completion_tokens) == ("cancelled", 30, 2)
        assert sums_agree(session)


def test_an_expired_batch_keeps_its_results(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool]
) -> None:
    batch_id = new_batch(database, lines=30)
    dispatch()
    run_queued(database, redis_client)
    dispatch()
    with database.begin() as session:
        batch_of(session, batch_id).expires_at = utc_now() - timedelta(seconds=1)

    dispatch()
    dispatch()

    with database() as session:
        batch = batch_of(session, batch_id)
        assert (batch.state, batch.succeeded, batch.expired) == ("expired", 10, 20)
        assert sums_agree(session)


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


@pytest.mark.parametrize("owner", ["key", "user"])
def test_a_batch_of_a_deleted_key_or_user_is_cancelled(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool], owner: str
) -> None:
    with database.begin() as session:
        user = add_user(session)
        key = add_key(session, user)
        batch_id = add_batch(session, key, lines=20).id
    dispatch()
    with database.begin() as session:
        if owner == "key":
            session.get_one(ApiKey, key.id).deleted_at = utc_now()
        else:
            delete_user(session, session.merge(user))

    dispatch()
    dispatch()

    with database() as session:
        assert batch_of(session, batch_id).state == "cancelled"
        assert lines_by_state(session, batch_id) == {"cancelled": 20}


def test_a_batch_without_open_lines_is_completed(
    database: SessionFactory, dispatch: Callable[[], bool]
) -> None:
    """All lines of the batch were invalid."""
    with database.begin() as session:
        batch = add_batch(session, lines=2, webhook_url="https://example.com/x")
        for job in session.scalars(select(Job).where(Job.batch_id == batch.id)):
            job.state, job.finished_at = "failed", utc_now()
        batch.failed = 2

    dispatch()

    with database() as session:
        assert batch_of(session, batch.id).state == "completed"


def test_lines_charge_only_the_monthly_quota_of_their_key(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool]
) -> None:
    key = new_key(database, rate_limit=1, token_limit=1, max_in_flight=1)
    batch_id = new_batch(database, key, lines=20)

    dispatch()
    assert month_of(database, redis_client, key) == (10 * WANTED, 0)
    run_to_the_end(database, redis_client, dispatch, batch_id)

    assert month_of(database, redis_client, key) == (20 * USED, 0)


def test_a_line_waits_while_pending_charges_use_the_quota(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool]
) -> None:
    key = new_key(database, monthly_token_limit=20 * USED + WANTED)
    batch_id = new_batch(database, key, lines=20)
    other = new_batch(database, lines=40)

    run_to_the_end(database, redis_client, dispatch, batch_id, other)

    with database() as session:
        assert lines_by_state(session, batch_id) == {"succeeded": 20}
        assert sums_agree(session)


def test_lines_beyond_the_months_quota_fail_together_and_cost_nothing(
    database: SessionFactory, redis_client: redis.Redis, dispatch: Callable[[], bool]
) -> None:
    small = {**REQUEST, "maxTokens": 1}
    key = new_key(database, monthly_token_limit=5 * USED + WANTED - 1)
    requests = [REQUEST] * 2500 + [small]
    batch_id = new_batch(database, key, requests=requests, webhook_url="https://example.com/x")
    other = new_batch(database, lines=5)
    passes = 0

    def run_once() -> bool:
        nonlocal passes
        passes += 1
        return dispatch()

    run_to_the_end(database, redis_client, run_once, batch_id, other)

    with database() as session:
        batch = batch_of(session, batch_id)
        assert (batch.state, batch.succeeded + batch.failed) == ("completed", 2501)
        assert 5 <= batch.succeeded <= 6  # the small line fits if it is charged in time
        assert batch.prompt_tokens + batch.completion_tokens == batch.succeeded * USED
        failed = session.scalars(select(Job).where(Job.state == "failed").limit(1)).one()
        assert failed.error is not None and failed.error["code"] == "monthly_quota_exceeded"
        assert sums_agree(session)
    assert passes < 20


def test_the_charge_of_a_line_cancelled_before_its_release_is_returned(
    database: SessionFactory, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_workers(redis_client, places=10)
    key = new_key(database, monthly_token_limit=1000)
    batch_id = new_batch(database, key, lines=3)

    def fail(*_: Any) -> Any:
        raise OperationalError("update", {}, Exception("connection refused"))

    monkeypatch.setattr("worker.batches.dispatcher.release_lines", fail)
    dispatcher = Dispatcher(sessions=database, client=redis_client)
    with pytest.raises(OperationalError):
        dispatcher.run_once()
    monkeypatch.undo()
    assert month_of(database, redis_client, key) == (3 * WANTED, 0)
    with database.begin() as session:
        request_batch_cancel(session, batch_id)
    dispatcher.run_once()

    LimitReconciler(sessions=database, client=redis_client).reconcile()

    assert month_of(database, redis_client, key) == (0, 0)


@pytest.mark.alone
def test_a_running_dispatcher_starts_a_new_batch_at_once(
    database: SessionFactory, redis_client: redis.Redis
) -> None:
    have_workers(redis_client, places=10)
    dispatcher = Dispatcher(sessions=database, client=redis_client, tick_seconds=30)
    dispatcher.start()
    try:
        wait_until(lambda: redis_client.pubsub_numsub("batch-news")[0][1] == 1, 20)
        for count in (1, 2, 3):  # the first pass may have found the first one
            new_batch(database, lines=1)
            published_at = time.monotonic()
            publish_batch_change(redis_client)
            wait_until(lambda count=count: len(queue_of(redis_client)) == count, 20)
            assert time.monotonic() - published_at < 1.0
    finally:
        dispatcher.stop()


def test_a_database_that_is_away_is_logged_once_and_waited_for(
    database: SessionFactory, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    class UnreliableDatabase:
        """A database that is away while `is_away`; it counts the sessions."""

        is_away = True
        opened = 0

        def __call__(self) -> Any:
            self.opened += 1
            if self.is_away:
                raise OperationalError("begin", {}, Exception("connection refused"))
            return database()

        def begin(self) -> Any:
            return database.begin()

    have_workers(redis_client, places=10)
    new_batch(database, lines=3)
    unreliable = UnreliableDatabase()
    dispatcher = Dispatcher(sessions=unreliable, client=redis_client, tick_seconds=0.05)  # type: ignore[arg-type]
    dispatcher.start()
    try:
        wait_until(lambda: unreliable.opened >= 5, 20)
        unreliable.is_away = False
        wait_until(lambda: len(queue_of(redis_client)) == 3, 20)
    finally:
        dispatcher.stop()

    assert caplog.text.count("a part is away") == 1
