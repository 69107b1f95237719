"""Webhooks end to end, with real workers and a receiver that uses the official library."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from cli.system.ports import free_port
from core.ids import Prefix, format_id, parse_id
from models.accounts.api_key import ApiKey
from models.database.base import SessionFactory, utc_now
from models.jobs.job import Job
from models.webhooks.webhook import WebhookDelivery
from tests.support.http.webhooks import (
    WEBHOOK_TIMEOUT,
    add_deliveries,
    secret_of,
    submit_with_webhook,
    webhook_of,
)
from tests.support.polling import wait_until
from tests.support.service import Service
from tests.support.webhook_receiver import Receiver, receiving

DELIVERIES = 200


@pytest.mark.alone
def test_a_healthy_receiver_is_notified_within_two_seconds(
    webhook_service: Service, key: dict[str, Any], headers: dict[str, str]
) -> None:
    with receiving() as receiver:
        job_id = submit_with_webhook(
            webhook_service, headers, receiver.url, metadata={"order": "7"}
        )
        ended = time.monotonic()
        wait_until(lambda: receiver.received, 20, webhook_service.logs)
        wait_until(lambda: webhook_of(webhook_service, headers, job_id)["state"] == "delivered", 20)

    (received,) = receiver.received
    assert received.at - ended < 2
    message = received.verified(secret_of(webhook_service, key))
    assert message["type"] == "job.succeeded"
    job = webhook_service.call("GET", f"/api/llm/jobs/{job_id}", headers=headers).json()
    assert message["data"] == job
    assert job["result"]["usage"]["completion_tokens"] == 5
    webhook = webhook_of(webhook_service, headers, job_id)
    assert (webhook["jobId"], webhook["url"]) == (job_id, receiver.url)
    assert received.headers["webhook-id"] == webhook["id"]
    assert [(a["status"], a["error"]) for a in webhook["attempts"]] == [(200, None)]


@pytest.mark.alone
def test_a_failed_attempt_is_retried_after_five_seconds(
    webhook_service: Service, headers: dict[str, str]
) -> None:
    with receiving(lambda count_before: (200 if count_before else 500, {})) as receiver:
        job_id = submit_with_webhook(webhook_service, headers, receiver.url)
        wait_until(lambda: webhook_of(webhook_service, headers, job_id)["state"] == "delivered", 20)

    first, second = receiver.received
    assert 5 <= second.at - first.at < 8
    assert len(set(receiver.ids)) == 1
    attempts = webhook_of(webhook_service, headers, job_id)["attempts"]
    assert [(a["status"], a["error"]) for a in attempts] == [
        (200, None),
        (500, "responded with 500"),
    ]


def test_a_receiver_that_starts_late_is_notified(
    webhook_service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    port = free_port()
    job_id = submit_with_webhook(webhook_service, headers, f"http://127.0.0.1:{port}/hook")
    wait_until(lambda: webhook_of(webhook_service, headers, job_id)["attempts"], 20)
    webhook = webhook_of(webhook_service, headers, job_id)
    assert (webhook["state"], webhook["attempts"][0]["error"]) == ("pending", "no connection")
    assert webhook["nextAttemptAt"] is not None

    with receiving(port=port) as receiver:
        make_due(rows, webhook["id"])
        wait_until(lambda: webhook_of(webhook_service, headers, job_id)["state"] == "delivered", 20)

    assert len(receiver.received) == 1


def make_due(rows: SessionFactory, webhook_id: str) -> None:
    """Let the next attempt be due now, so that the test need not wait for the retry."""
    with rows.begin() as session:
        delivery = session.get_one(WebhookDelivery, parse_id(Prefix.WEBHOOK, webhook_id))
        delivery.next_attempt_at = utc_now()


def test_a_receiver_that_never_responds_and_one_that_redirects_are_failures(
    webhook_service: Service, headers: dict[str, str]
) -> None:
    released = threading.Event()

    def wait(count_before: int) -> tuple[int, dict[str, str]]:
        released.wait(30)
        return 200, {}

    with (
        receiving() as inside,
        receiving(lambda count_before: (307, {"Location": inside.url})) as redirecting,
        receiving(wait) as silent,
    ):
        jobs = [
            submit_with_webhook(webhook_service, headers, receiver.url)
            for receiver in (redirecting, silent)
        ]
        for job_id in jobs:
            wait_until(lambda j=job_id: webhook_of(webhook_service, headers, j)["attempts"], 20)
        released.set()

    webhooks = [webhook_of(webhook_service, headers, job_id) for job_id in jobs]
    assert [webhook["attempts"][-1]["error"] for webhook in webhooks] == [
        "redirects are not followed",
        "no response within 2 s",
    ]
    assert webhooks[1]["attempts"][-1]["durationMs"] >= 1000 * WEBHOOK_TIMEOUT
    assert inside.connections == 0


def test_failed_cancelled_and_expired_jobs_have_their_own_events(
    webhook_service: Service, key: dict[str, Any], headers: dict[str, str], rows: SessionFactory
) -> None:
    with receiving() as receiver:
        now = utc_now()
        long_ago = now - timedelta(minutes=1)
        dead = {"state": "running", "worker_id": "dead", "attempt": 3, "started_at": long_ago}
        made = {
            "job.failed": {**dead, "lease_expires_at": long_ago},
            "job.cancelled": {
                **dead,
                "lease_expires_at": long_ago,
                "cancel_requested_at": long_ago,
            },
            "job.expired": {"expires_at": long_ago},
        }
        with rows.begin() as session:
            owner = session.get_one(ApiKey, parse_id(Prefix.KEY, key["id"]))
            jobs = {
                event: Job(
                    user_id=owner.user_id,
                    api_key_id=owner.id,
                    queue="interactive",
                    model="m",
                    request={"prompt": "p", "maxTokens": 5, "webhookUrl": receiver.url},
                    created_at=now,
                    **values,
                )
                for event, values in made.items()
            }
            session.add_all(jobs.values())
        wait_until(lambda: len(receiver.received) == 3, 20, webhook_service.logs)

    secret = secret_of(webhook_service, key)
    messages = {m["type"]: m["data"] for m in (r.verified(secret) for r in receiver.received)}
    assert {event: data["status"] for event, data in messages.items()} == {
        "job.failed": "failed",
        "job.cancelled": "cancelled",
        "job.expired": "expired",
    }
    assert messages["job.failed"]["error"]["code"] == "worker_lost"
    for event, job in jobs.items():
        assert messages[event]["id"] == format_id(Prefix.JOB, job.id)


def test_two_workers_send_many_messages_once_each(
    webhook_service: Service, key: dict[str, Any], headers: dict[str, str], rows: SessionFactory
) -> None:
    job_id = submit_with_webhook(webhook_service, headers, "http://127.0.0.1:1024/")
    with receiving() as receiver:
        add_deliveries(rows, job_id, receiver.url, DELIVERIES)
        wait_until(lambda: pending(rows, receiver) == 0, 60, webhook_service.logs)
        time.sleep(1)  # a second message would arrive by now

    assert len(receiver.ids) == len(set(receiver.ids)) == DELIVERIES
    sent = [
        log.read_text().count('"message": "webhook"')
        for log in webhook_service.directory.glob("worker-*.log")
    ]
    assert len(sent) == 2
    assert min(sent) > DELIVERIES // 10


def pending(rows: SessionFactory, receiver: Receiver) -> int:
    with rows() as session:
        return (
            session.scalar(
                select(func.count())
                .select_from(WebhookDelivery)
                .where(WebhookDelivery.url == receiver.url, WebhookDelivery.state == "pending")
            )
            or 0
        )
