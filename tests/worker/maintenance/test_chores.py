"""A chore, job, batch or row that fails every time delays no other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
import redis

from core.config.settings import Settings
from core.events.job_events import TextPiece
from core.queueing.broker import JobQueue
from core.queueing.names import QueueName
from core.redis.subscription import Subscription
from models.batches.batch import Batch
from models.database.base import SessionFactory, utc_now
from models.jobs.job import Job, JobState
from models.jobs.lists import QueuedJob
from models.webhooks.webhook import DeliveryState, WebhookDelivery
from tests.support.factories.batches import have_workers, new_batch
from tests.support.factories.faulty_rows import CODES, is_row, refused
from tests.support.factories.rows import add_job, add_key
from tests.support.polling import wait_until
from tests.support.worker.silent_jobs import add_silent_job
from worker.batches.dispatcher import Dispatcher
from worker.jobs.text_publisher import TextPublisher
from worker.maintenance.chores import Chores
from worker.maintenance.guard import Guard
from worker.maintenance.reaper import Reaper
from worker.maintenance.retention import Retention

DAY = timedelta(days=1)


def test_a_failing_chore_delays_no_other_and_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures: list[str] = []
    passes = threading.Semaphore(0)

    def fail() -> None:
        raise KeyError("an unexpected row")

    chores = Chores(
        {"reaper": fail, "usage": lambda: passes.release()},
        count_failure=failures.append,
        interval_seconds=0.01,
    )
    chores.start()
    for _ in range(20):
        assert passes.acquire(timeout=10)
    chores.stop()

    assert failures == ["reaper"]  # once: it backs off while the other chore runs
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert record.exc_info is not None and record.exc_info[0] is KeyError
    assert vars(record)["chore"] == "reaper"


def test_a_slow_chore_delays_no_other() -> None:
    released, passes = threading.Event(), threading.Semaphore(0)

    def wait() -> None:
        released.wait(30)

    chores = Chores({"usage": wait, "reaper": lambda: passes.release()}, interval_seconds=0.01)
    chores.start()
    try:
        for _ in range(5):
            assert passes.acquire(timeout=10)
    finally:
        released.set()
        chores.stop()


def test_failing_work_backs_off_longer_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr("worker.maintenance.guard.time.monotonic", lambda: now)
    guard = Guard("usage", expected=(ConnectionError,))
    backoffs = []

    for _ in range(7):
        with guard:
            raise ValueError
        failed_at = now
        while guard.is_backing_off:
            now += 1
        backoffs.append(now - failed_at)
    with guard:
        pass
    with guard:
        raise ValueError
    now += 2

    assert backoffs == [2, 4, 8, 16, 32, 60, 60]
    assert not guard.is_backing_off
    with pytest.raises(ConnectionError), guard:
        raise ConnectionError


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("fault", ["silent", "expired"])
def test_a_job_that_cannot_be_ended_blocks_no_other(
    database: SessionFactory,
    redis_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    fault: str,
    code: str,
) -> None:
    failures: list[str] = []
    add: Callable[[SessionFactory], UUID] = _add_expired_job
    if fault == "silent":
        add = add_silent_job
    ids = [add(database) for _ in range(4)]
    reaper = Reaper(
        sessions=database,
        client=redis_client,
        max_attempts=1,
        lease=timedelta(seconds=10),
        count_failure=failures.append,
    )

    with refused(database, "before update", "jobs", is_row("new.id", ids[1]), code=code):
        reaper.reap()

        assert [_has_ended(database, job_id) for job_id in ids] == [True, False, True, True]
        assert failures == ["reaper"]
        assert _tracebacks(caplog, "cannot end jobs together") == [True]
        lost = _add_lost_job(database)
        reaper.reap()
        assert _is_queued(redis_client, lost)
    Reaper(
        sessions=database, client=redis_client, max_attempts=1, lease=timedelta(seconds=10)
    ).reap()

    assert _has_ended(database, ids[1])


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("change", ["released", "cancelled"])
def test_a_batch_that_cannot_be_changed_blocks_no_other(
    database: SessionFactory,
    redis_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    change: str,
    code: str,
) -> None:
    failures: list[str] = []
    have_workers(redis_client, places=100)
    values = {"state": "cancelling"} if change == "cancelled" else {}
    batches = [new_batch(database, lines=3, **values) for _ in range(3)]
    dispatcher = Dispatcher(sessions=database, client=redis_client, count_failure=failures.append)

    with refused(database, "before update", "jobs", is_row("new.batch_id", batches[0]), code=code):
        for _ in range(3):
            dispatcher.run_once()

        assert failures == ["batches"]
        logged = _tracebacks(caplog, "cannot release lines together")
        assert logged == ([True] if change == "released" else [])
        moved = [_has_moved(database, batch_id) for batch_id in batches]
    assert moved == [False, True, True]


@pytest.mark.parametrize("code", CODES)
def test_data_that_cannot_be_deleted_blocks_no_other_kind(
    database: SessionFactory, base_settings: Settings, code: str
) -> None:
    failures: list[str] = []
    with database.begin() as session:
        key = add_key(session)
        old = utc_now() - 99 * DAY
        job_id = add_job(session, key, state=JobState.SUCCEEDED, created_at=old, finished_at=old).id
        message = WebhookDelivery(
            id=UUID(int=7 << 76 | 2 << 62),  # an id of version 7, made in 1970
            user_id=key.user_id,
            api_key_id=key.id,
            job_id=job_id,
            url="https://example.com",
            event="job.succeeded",
            payload={},
            state=DeliveryState.DELIVERED,
            created_at=old,
        )
        session.add(message)
    days = {"retain_jobs_days": 90, "retain_prompts_days": 30, "retain_webhooks_days": 30}
    settings = base_settings.model_copy(update=days)

    with refused(database, "before delete", "jobs", "true", code=code):
        Retention(
            sessions=database, settings=settings, pass_seconds=30, count_failure=failures.append
        ).enforce()

    assert failures == ["retention"]
    with database() as session:
        assert "prompt" not in session.get_one(Job, job_id).request
        assert session.get(WebhookDelivery, message.id) is None


def test_a_bad_text_does_not_stop_the_publisher(redis_client: redis.Redis) -> None:
    messages: list[bytes] = []
    connected = threading.Event()
    subscription = Subscription(
        redis_client, "job-news", on_message=messages.append, on_connected=connected.set
    )
    subscription.listen()
    assert connected.wait(10)
    publisher = TextPublisher(redis_client)
    publisher.start()

    publisher.publish([_piece("bad")._replace(job=UUID(int=1))])  # JSON cannot encode it
    wait_until(lambda: not publisher._pieces, 10)
    publisher.publish([_piece("whole")])

    wait_until(lambda: any(b"whole" in message for message in messages), 10)
    publisher.stop()
    subscription.close()


def test_a_subscription_continues_after_any_error(redis_client: redis.Redis) -> None:
    messages: list[bytes] = []
    connections: list[int] = []

    def connected() -> None:
        connections.append(1)

    class UnreliableClient:
        """A client whose first subscription raises an unexpected error."""

        def pubsub(self) -> object:
            if not connections:
                connections.append(0)
                raise ValueError("not a response of Redis")
            return redis_client.pubsub()

        publish: Callable[..., object] = redis_client.publish

    subscription = Subscription(
        UnreliableClient(),  # type: ignore[arg-type]
        "job-news",
        on_message=messages.append,
        on_connected=connected,
    )
    subscription.listen()
    wait_until(lambda: connections == [0, 1], 10)
    redis_client.publish("job-news", b"event")

    wait_until(lambda: messages == [b"event"], 10)
    subscription.close()


def _piece(text: str) -> TextPiece:
    return TextPiece(
        job=UUID(int=1).hex, attempt=1, choice=0, offset=0, text=text, token_offset=0, logprobs=None
    )


def _add_expired_job(database: SessionFactory) -> UUID:
    with database.begin() as session:
        return add_job(session, expires_at=utc_now() - DAY).id


def _add_lost_job(database: SessionFactory) -> QueuedJob:
    """Add a committed job that is on no queue."""
    with database.begin() as session:
        job = add_job(session, created_at=utc_now() - DAY)
        return QueuedJob(job.id, job.queue)


def _is_queued(client: redis.Redis, job: QueuedJob) -> bool:
    return JobQueue(client).missing([job.id], QueueName(job.queue)) == []


def _has_ended(database: SessionFactory, job_id: UUID) -> bool:
    with database() as session:
        return session.get_one(Job, job_id).is_final


def _has_moved(database: SessionFactory, batch_id: UUID) -> bool:
    """Return whether lines of a batch were released, or the batch ended."""
    with database() as session:
        batch = session.get_one(Batch, batch_id)
        return batch.started_at is not None or batch.is_final


def _tracebacks(caplog: pytest.LogCaptureFixture, text: str) -> list[bool]:
    """Return for each record with this text whether it has a traceback."""
    return [bool(r.exc_info) for r in caplog.records if text in r.getMessage()]
