"""The sender delivers due webhooks, retries failures, and lets no receiver delay another."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from core.config.settings import Settings
from core.ids import Prefix, format_id
from core.webhooks.signature import WebhookSecret
from models.accounts.api_key import ApiKey
from models.database.base import SessionFactory, open_database, sessions
from models.jobs.serializer import serialize_listed_job
from models.webhooks.queue import claim_delivery
from models.webhooks.webhook import WebhookAttempt, WebhookDelivery, list_attempts
from tests.support.factories.rows import add_job, add_key
from tests.support.polling import wait_until
from tests.support.webhook_receiver import Receiver, Responder, receiving
from worker.webhooks.retry_schedule import RetrySchedule
from worker.webhooks.sender import MAX_PER_RECEIVER, MAX_PER_USER, WebhookSender

TIMEOUT_SECONDS = 2.0
#: Nothing listens there.
ABSENT_DATABASE_URL = "postgresql+psycopg2://u:p@127.0.0.1:1/x"


@pytest.fixture
def settings(base_settings: Settings) -> Settings:
    changes = {
        "webhook_allowed_networks": "127.0.0.0/8",
        "webhook_timeout_seconds": TIMEOUT_SECONDS,
    }
    return base_settings.model_copy(update=changes)


@pytest.fixture
def sender(database: SessionFactory, settings: Settings) -> Iterator[WebhookSender]:
    """A sender that retries at once. The test starts it."""
    schedule = RetrySchedule(delays_seconds=(0.05,))
    sender = WebhookSender(sessions=database, settings=settings, schedule=schedule)
    yield sender
    sender.stop()


def add_deliveries(database: SessionFactory, key: ApiKey, url: str, count: int = 1) -> list[UUID]:
    """Add due deliveries to one receiver."""
    with database.begin() as session:
        job = add_job(session, key, state="failed", error={"code": "c", "message": "m"})
        job.finished_at = job.created_at
        deliveries = [
            WebhookDelivery(
                user_id=key.user_id,
                api_key_id=key.id,
                job_id=job.id,
                url=url,
                event="job.failed",
                payload=serialize_listed_job(job),
            )
            for _ in range(count)
        ]
        session.add_all(deliveries)
    return [delivery.id for delivery in deliveries]


def state_of(database: SessionFactory, delivery_id: UUID) -> str:
    with database() as session:
        return session.get_one(WebhookDelivery, delivery_id).state


def attempts_of(database: SessionFactory, delivery_id: UUID) -> list[WebhookAttempt]:
    """Return the attempts of a delivery, oldest first."""
    with database() as session:
        return list_attempts(session, delivery_id, limit=99)[::-1]


@contextmanager
def silent_receiver() -> Iterator[Receiver]:
    """Run a receiver that accepts every message and never responds."""
    released = threading.Event()

    def respond(number: int) -> tuple[int, dict[str, str]]:
        released.wait(60)
        return 200, {}

    with receiving(respond) as receiver:
        yield receiver
        released.set()


def test_a_message_is_signed_and_its_attempt_visible(
    database: SessionFactory, settings: Settings, key: ApiKey, sender: WebhookSender
) -> None:
    with receiving() as receiver:
        (delivery_id,) = add_deliveries(database, key, receiver.url)
        sender.start()
        wait_until(lambda: state_of(database, delivery_id) == "delivered", 20)

    (received,) = receiver.received
    assert received.headers["webhook-id"] == format_id(Prefix.WEBHOOK, delivery_id)
    message = received.verified(WebhookSecret.of_key(settings, key.id).text)
    assert message["type"] == "job.failed"
    assert message["data"]["error"] == {"code": "c", "message": "m"}
    (attempt,) = attempts_of(database, delivery_id)
    assert (attempt.status, attempt.error) == (200, None)


def test_a_retry_sends_the_same_message_with_a_new_signature(
    database: SessionFactory, settings: Settings, key: ApiKey, sender: WebhookSender
) -> None:
    with receiving(lambda number: (200 if number == 2 else 500, {})) as receiver:
        (delivery_id,) = add_deliveries(database, key, receiver.url)
        sender.start()
        wait_until(lambda: state_of(database, delivery_id) == "delivered", 20)

    assert len(set(receiver.ids)) == 1
    secret = WebhookSecret.of_key(settings, key.id).text
    assert len({str(received.verified(secret)) for received in receiver.received}) == 1
    assert [attempt.status for attempt in attempts_of(database, delivery_id)] == [500, 500, 200]


@pytest.mark.parametrize(
    ("respond", "error"),
    [
        (lambda number: (410, {}), "responded with 410"),
        (None, "refused: names an address that is not allowed"),
    ],
    ids=["gone", "refused"],
)
def test_a_permanent_failure_is_not_retried(
    database: SessionFactory,
    key: ApiKey,
    sender: WebhookSender,
    respond: Responder | None,
    error: str,
) -> None:
    with ExitStack() as stack:
        url = "http://169.254.169.254/latest/meta-data/"
        if respond is not None:
            url = stack.enter_context(receiving(respond)).url
        (delivery_id,) = add_deliveries(database, key, url)
        sender.start()
        wait_until(lambda: state_of(database, delivery_id) == "failed", 20)

    assert [attempt.error for attempt in attempts_of(database, delivery_id)] == [error]


def test_a_redirect_is_a_failed_attempt(
    database: SessionFactory, key: ApiKey, sender: WebhookSender
) -> None:
    with (
        receiving() as internal,
        receiving(lambda number: (302, {"Location": internal.url})) as receiver,
    ):
        (delivery_id,) = add_deliveries(database, key, receiver.url)
        sender.start()
        wait_until(lambda: len(attempts_of(database, delivery_id)) >= 2, 20)

    assert internal.connections == 0
    first = attempts_of(database, delivery_id)[0]
    assert (first.status, first.error) == (302, "redirects are not followed")


@pytest.mark.alone
def test_a_silent_receiver_delays_no_other(
    database: SessionFactory, key: ApiKey, sender: WebhookSender
) -> None:
    with silent_receiver() as silent, receiving() as healthy:
        waiting = add_deliveries(database, key, silent.url, 50)
        sender.start()
        wait_until(lambda: len(silent.received) == MAX_PER_RECEIVER, 20)
        added_at = time.monotonic()
        (delivery_id,) = add_deliveries(database, key, healthy.url)
        wait_until(lambda: state_of(database, delivery_id) == "delivered", 20)

        assert time.monotonic() - added_at < min(1.5, TIMEOUT_SECONDS)
        wait_until(lambda: attempts_of(database, waiting[0]), 2 * TIMEOUT_SECONDS)
        assert attempts_of(database, waiting[0])[0].error == "no response within 2 s"
        # A message without an attempt is postponed and takes no slot.
        with database() as session:
            untried = session.get_one(WebhookDelivery, waiting[-1])
        assert untried.attempts == 0
        assert untried.next_attempt_at - untried.created_at > timedelta(seconds=5)


@pytest.mark.alone
def test_a_customer_with_many_silent_receivers_leaves_slots_for_others(
    database: SessionFactory, key: ApiKey, sender: WebhookSender
) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(silent_receiver()) for _ in range(4)]
        for receiver in silent:
            add_deliveries(database, key, receiver.url, 5)
        sender.start()
        wait_until(lambda: sum(len(r.received) for r in silent) == MAX_PER_USER, 20)
        with database.begin() as session:
            other = add_key(session)
        healthy = stack.enter_context(receiving())
        (delivery_id,) = add_deliveries(database, other, healthy.url)

        wait_until(lambda: state_of(database, delivery_id) == "delivered", 1.5)
        assert sum(len(r.received) for r in silent) == MAX_PER_USER


def test_an_interrupted_message_is_sent_after_its_lease(
    database: SessionFactory, key: ApiKey, sender: WebhookSender
) -> None:
    lease = timedelta(seconds=1)
    with receiving() as receiver:
        add_deliveries(database, key, receiver.url)
        claimed_at = time.monotonic()
        with database.begin() as session:  # another sender claims it and dies
            assert claim_delivery(session, lease=lease) is not None
        sender.start()
        wait_until(lambda: receiver.received, 20)

    (received,) = receiver.received
    assert received.at - claimed_at >= lease.total_seconds()


def test_the_sender_waits_for_the_database(
    database: SessionFactory,
    settings: Settings,
    key: ApiKey,
    caplog: pytest.LogCaptureFixture,
) -> None:
    away = settings.model_copy(update={"database_url": SecretStr(ABSENT_DATABASE_URL)})
    engine = open_database(away)
    is_away = threading.Event()
    is_away.set()

    class UnreliableDatabase:
        """Sessions of an absent database while `is_away`, and of the real one afterwards."""

        def __getattr__(self, name: str) -> Any:
            return getattr(sessions(engine) if is_away.is_set() else database, name)

        def __call__(self) -> Any:
            return self.__getattr__("__call__")()

    unreliable: Any = UnreliableDatabase()
    with receiving() as receiver:
        (delivery_id,) = add_deliveries(database, key, receiver.url)
        sender = WebhookSender(sessions=unreliable, settings=settings)
        sender.start()
        wait_until(lambda: "the database is away" in caplog.text, 10)
        is_away.clear()
        wait_until(lambda: state_of(database, delivery_id) == "delivered", 20)
        sender.stop()
    engine.dispose()


def test_stop_waits_for_running_attempts_and_starts_none(
    database: SessionFactory, key: ApiKey, sender: WebhookSender
) -> None:
    with silent_receiver() as receiver:
        waiting = add_deliveries(database, key, receiver.url, MAX_PER_RECEIVER + 1)
        sender.start()
        wait_until(lambda: len(receiver.received) == MAX_PER_RECEIVER, 20)

        sender.stop()

        attempted = [one for one in waiting if attempts_of(database, one)]
        assert len(attempted) == len(receiver.received) == MAX_PER_RECEIVER
