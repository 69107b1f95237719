from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from models.database.base import SessionFactory, utc_now
from models.execution.completion import cancel_jobs, record_end
from models.jobs.job import JobState
from models.jobs.outcome import JobOutcome
from models.jobs.serializer import serialize_listed_job
from models.jobs.transitions import expire_queued, finish_job
from models.webhooks.queue import (
    AttemptResult,
    RetryDecision,
    claim_delivery,
    postpone_due,
    record_attempt,
    resend_delivery,
    round_began_at,
)
from models.webhooks.webhook import (
    DeliveryState,
    Receiver,
    WebhookDelivery,
    list_attempts,
    list_deliveries,
)
from tests.support.factories.rows import add_job, add_key, claim_job

URL = "https://Hooks.example.com:8443/a?b"
LEASE = timedelta(seconds=30)
RETRY = RetryDecision(DeliveryState.PENDING, timedelta(minutes=1))


def add_delivery(session: Session, key: Any = None, **values: Any) -> WebhookDelivery:
    job = add_job(session, key)
    delivery = WebhookDelivery(
        **{
            "user_id": job.user_id,
            "api_key_id": job.api_key_id,
            "job_id": job.id,
            "url": URL,
            "event": "job.succeeded",
            "payload": {},
            "next_attempt_at": utc_now() - timedelta(seconds=1),
            **values,
        }
    )
    session.add(delivery)
    session.flush()
    return delivery


def tried(status: int = 500) -> AttemptResult:
    return AttemptResult(utc_now(), duration_ms=1, status=status, error="answered")


def claim(session: Session, **bounds: Any) -> WebhookDelivery | None:
    return claim_delivery(session, lease=LEASE, **bounds)


def test_a_job_without_a_webhook_url_adds_no_webhook(session: Session) -> None:
    cancel_jobs(session, [add_job(session).id])

    assert list_deliveries(session, limit=9).rows == []


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "expired"])
def test_each_end_adds_its_event_with_the_job(session: Session, state: str) -> None:
    past = utc_now() - timedelta(minutes=1)
    job = add_job(
        session,
        request={"prompt": "p", "webhookUrl": URL, "metadata": {"a": "b"}},
        expires_at=past if state == "expired" else None,
    )
    if state == "cancelled":
        cancel_jobs(session, [job.id])
    elif state == "expired":
        (expired,) = expire_queued(session, limit=9)
        record_end(session, expired)
    else:
        claim_job(session, job.id, worker_id="w", lease=LEASE)
        outcome = JobOutcome(JobState(state), completion_tokens=3)
        record_end(session, finish_job(session, job.id, attempt=1, outcome=outcome))  # type: ignore[arg-type]

    (delivery,) = list_deliveries(session, limit=9).rows
    assert (delivery.event, delivery.url) == (f"job.{state}", URL)
    assert delivery.payload == serialize_listed_job(job)
    assert delivery.payload["status"] == state
    assert delivery.payload["metadata"] == {"a": "b"}
    session.commit()
    assert claim(session) == delivery


def test_a_job_whose_end_is_rolled_back_adds_no_webhook(database: SessionFactory) -> None:
    with database.begin() as session:
        job_id = add_job(session, request={"prompt": "p", "webhookUrl": URL}).id
    with database() as session:
        cancel_jobs(session, [job_id])
        session.rollback()

        assert list_deliveries(session, limit=9).rows == []


def test_a_claimed_delivery_cannot_be_claimed_until_its_lease_expires(session: Session) -> None:
    add_delivery(session)

    assert claim_delivery(session, lease=-LEASE) is not None
    assert claim(session) is not None
    assert claim(session) is None


def test_concurrent_claims_get_different_deliveries(database: SessionFactory) -> None:
    with database.begin() as session:
        expected = {add_delivery(session).id for _ in range(2)}

    with database() as first, database() as second:
        claimed = [claim(first), claim(second), claim(second)]

    assert {delivery.id for delivery in claimed if delivery} == expected
    assert claimed[2] is None


def test_the_delivery_that_waits_longest_is_first(session: Session) -> None:
    now = utc_now()
    ages = [10, 30, 20, -10]
    made = [add_delivery(session, next_attempt_at=now - timedelta(seconds=age)).id for age in ages]

    claimed = [claim(session) for _ in range(4)]

    assert [delivery.id if delivery else None for delivery in claimed] == [
        made[1],
        made[2],
        made[0],
        None,
    ]


def test_a_receiver_with_enough_attempts_under_way_is_skipped(session: Session) -> None:
    key = add_key(session)
    old = timedelta(minutes=1)
    full = add_delivery(session, key, next_attempt_at=utc_now() - 2 * old)
    other_host = add_delivery(session, key, url="http://other/", next_attempt_at=utc_now() - old)
    other_user = add_delivery(session)
    assert full.receiver == Receiver(key.user_id, "hooks.example.com:8443")

    assert claim(session, full_receivers=[full.receiver]) == other_host
    assert claim(session, full_users=[key.user_id]) == other_user
    assert claim(session, full_users=[key.user_id]) is None
    assert claim(session) == full


def test_a_failed_attempt_is_visible_and_the_next_one_later(session: Session) -> None:
    add_delivery(session)
    claimed = claim(session)
    assert claimed is not None
    assert round_began_at(session, claimed) is None

    result = tried()
    record_attempt(session, claimed, result, RETRY)
    session.refresh(claimed)

    assert (claimed.state, claimed.attempts, claimed.finished_at) == ("pending", 1, None)
    assert 55 < (claimed.next_attempt_at - utc_now()).total_seconds() <= 60
    (attempt,) = list_attempts(session, claimed.id, limit=9)
    assert AttemptResult(attempt.at, attempt.duration_ms, attempt.status, attempt.error) == result
    assert round_began_at(session, claimed) == result.at


@pytest.mark.parametrize("state", [DeliveryState.DELIVERED, DeliveryState.FAILED])
def test_a_finished_delivery_is_not_claimed(session: Session, state: DeliveryState) -> None:
    delivery = add_delivery(session)
    claimed = claim(session)
    assert claimed is not None

    record_attempt(session, claimed, tried(), RetryDecision(state))
    session.refresh(delivery)

    assert (delivery.state, delivery.finished_at is not None) == (state, True)
    assert claim(session) is None


def test_a_sender_without_a_lease_records_only_a_success(
    database: SessionFactory,
) -> None:
    with database.begin() as session:
        add_delivery(session)
    with database.begin() as session:
        late = claim_delivery(session, lease=-LEASE)
    with database.begin() as session:
        present = claim(session)
    assert late is not None and present is not None

    with database.begin() as session:
        record_attempt(session, late, tried(), RetryDecision(DeliveryState.FAILED))
    with database() as session:
        row = session.get_one(WebhookDelivery, late.id)
        assert (row.state, row.next_attempt_at) == ("pending", present.next_attempt_at)

    with database.begin() as session:
        record_attempt(session, late, tried(200), RetryDecision(DeliveryState.DELIVERED))
    with database() as session:
        assert session.get_one(WebhookDelivery, late.id).state == "delivered"
        assert len(list_attempts(session, late.id, limit=9)) == 2


def test_deliveries_to_a_receiver_that_is_away_are_postponed_by_their_age(session: Session) -> None:
    key = add_key(session)
    now = utc_now()
    young = add_delivery(session, key)
    hour_old = add_delivery(session, key, created_at=now - timedelta(hours=1))
    day_old = add_delivery(session, key, created_at=now - timedelta(days=1))
    others = [add_delivery(session), add_delivery(session, key, url="https://other/")]
    later = add_delivery(session, key, next_attempt_at=now + timedelta(hours=9))

    postpone_due(session, young.receiver)

    for delivery, seconds in ((young, 5), (hour_old, 900), (day_old, 3600)):
        session.refresh(delivery)
        delay = (delivery.next_attempt_at - now).total_seconds()
        assert seconds <= delay <= seconds * 1.2 + 2
        assert delivery.attempts == 0
    session.refresh(later)
    assert later.next_attempt_at == now + timedelta(hours=9)
    assert {claim(session), claim(session), claim(session)} == {*others, None}


@pytest.mark.parametrize("state", [DeliveryState.DELIVERED, DeliveryState.FAILED])
def test_resending_begins_a_new_round(session: Session, state: DeliveryState) -> None:
    delivery = add_delivery(session)
    claimed = claim(session)
    assert claimed is not None
    record_attempt(session, claimed, tried(), RetryDecision(state))

    resent = resend_delivery(session, delivery.id, lease=LEASE)

    assert resent is not None
    assert (resent.state, resent.attempts, resent.finished_at) == ("pending", 0, None)
    claimed = claim(session)
    assert claimed == delivery
    assert round_began_at(session, claimed) is None
    assert len(list_attempts(session, delivery.id, limit=9)) == 1


def test_resending_does_not_wait_for_a_late_next_attempt(session: Session) -> None:
    delivery = add_delivery(session, next_attempt_at=utc_now() + timedelta(hours=6), attempts=8)

    resend_delivery(session, delivery.id, lease=LEASE)

    assert claim(session) == delivery


def test_resending_an_attempt_under_way_sends_it_once(session: Session) -> None:
    delivery = add_delivery(session)
    assert claim(session) is not None

    resend_delivery(session, delivery.id, lease=LEASE)

    assert claim(session) is None


def test_the_list_is_paged_and_filtered_by_state(session: Session) -> None:
    key = add_key(session)
    made = [add_delivery(session, key) for _ in range(3)]
    session.execute(
        update(WebhookDelivery).where(WebhookDelivery.id == made[0].id).values(state="failed")
    )
    add_delivery(session)

    def listed(**wanted: Any) -> list[Any]:
        return [d.id for d in list_deliveries(session, user_id=key.user_id, limit=2, **wanted).rows]

    assert listed(after=None) == [made[2].id, made[1].id]
    assert listed(after=made[1].id) == [made[0].id]
    assert listed(state=DeliveryState.FAILED) == [made[0].id]
    assert len(list_deliveries(session, limit=9).rows) == 4
