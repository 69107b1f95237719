"""Webhooks end to end, with real workers and a receiver that uses the official library."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import redis
from sqlalchemy import func, select

from cli.system.ports import free_port
from core.config.settings import Settings
from core.ids import Prefix, format_id, parse_id
from models.accounts.api_key import ApiKey
from models.accounts.user import User
from models.database.base import SessionFactory, utc_now
from models.jobs.job import Job
from models.webhooks.webhook import WebhookDelivery
from tests.support.factories.batches import add_batch
from tests.support.factories.rows import hash_quickly
from tests.support.http.errors import error_of
from tests.support.http.webhooks import WEBHOOK_TIMEOUT, submit_with_webhook, webhook_of
from tests.support.polling import wait_until
from tests.support.service import Service
from tests.support.webhook_receiver import Receiver, receiving

DELIVERIES = 200


@pytest.fixture(scope="module")
def webhook_service(
    base_settings: Settings, _redis: redis.Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service with two workers, which may call receivers on this machine."""
    changes = {
        "webhook_allowed_networks": "127.0.0.0/8",
        "webhook_timeout_seconds": WEBHOOK_TIMEOUT,
    }
    directory = tmp_path_factory.mktemp("webhooks")
    with Service.started(base_settings, directory, workers=2, **changes) as running:
        yield running


@pytest.fixture(scope="module")
def rows(webhook_service: Service) -> Iterator[SessionFactory]:
    yield webhook_service.sessions


@pytest.fixture(scope="module")
def key(webhook_service: Service) -> dict[str, Any]:
    return webhook_service.make_key()


@pytest.fixture(scope="module")
def headers(key: dict[str, Any]) -> dict[str, str]:
    return {"x-api-key": key["secret"]}


@pytest.fixture(scope="module")
def stranger(webhook_service: Service, rows: SessionFactory) -> dict[str, str]:
    """The headers of another customer's key."""
    with rows.begin() as session:
        user = User(email="stranger@example.com", password_hash=hash_quickly("stranger1"))
        session.add(user)
    return webhook_service.sign_in("stranger@example.com", "stranger1")


def secret_of(service: Service, key: dict[str, Any]) -> str:
    path = f"/api/keys/{key['id']}/webhook-secret"
    response = service.call("GET", path, headers=service.sign_in_admin())
    assert response.status_code == 200, response.text
    return str(response.json()["secret"])


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


def test_a_failed_attempt_is_retried_after_five_seconds(
    webhook_service: Service, headers: dict[str, str]
) -> None:
    with receiving(lambda count_before: (200 if count_before else 500, {})) as receiver:
        job_id = submit_with_webhook(webhook_service, headers, receiver.url)
        wait_until(lambda: webhook_of(webhook_service, headers, job_id)["state"] == "delivered", 12)

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
        wait_until(lambda: webhook_of(webhook_service, headers, job_id)["state"] == "delivered", 12)

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
            wait_until(lambda j=job_id: webhook_of(webhook_service, headers, j)["attempts"], 10)
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


def test_a_message_is_resent_on_demand_and_audited(
    webhook_service: Service, headers: dict[str, str]
) -> None:
    with receiving() as receiver:
        job_id = submit_with_webhook(webhook_service, headers, receiver.url)
        wait_until(lambda: webhook_of(webhook_service, headers, job_id)["state"] == "delivered", 20)
        webhook_id = webhook_of(webhook_service, headers, job_id)["id"]

        repeated = webhook_service.call(
            "POST", f"/api/webhooks/{webhook_id}/resend", headers=headers
        )

        assert (repeated.status_code, repeated.json()["state"]) == (202, "pending")
        wait_until(lambda: len(receiver.received) == 2, 20)
        wait_until(lambda: webhook_of(webhook_service, headers, job_id)["state"] == "delivered", 20)
    assert receiver.ids == [webhook_id] * 2
    assert len(webhook_of(webhook_service, headers, job_id)["attempts"]) == 2
    activity = webhook_service.call(
        "GET", f"/api/admin/activity?target={webhook_id}", headers=webhook_service.sign_in_admin()
    ).json()["data"]
    (entry,) = activity
    assert (entry["action"], entry["targetId"]) == ("webhook.resend", webhook_id)
    assert entry["details"] == {"jobId": job_id, "stateBefore": "delivered"}


def test_the_webhook_of_a_batch_is_sent_listed_and_resent(
    webhook_service: Service, rows: SessionFactory, key: dict[str, Any], headers: dict[str, str]
) -> None:
    key_id = parse_id(Prefix.KEY, key["id"])
    with receiving() as receiver:
        with rows.begin() as session:
            owner = session.get_one(ApiKey, key_id)
            batch = add_batch(session, owner, lines=3, webhook_url=receiver.url, name="night")
        batch_id = format_id(Prefix.BATCH, batch.id)
        wait_until(lambda: receiver.received, 10, webhook_service.logs)
        listed = webhook_service.call("GET", "/api/webhooks", headers=headers).json()["data"][0]
        sent = webhook_service.call("POST", f"/api/webhooks/{listed['id']}/resend", headers=headers)
        wait_until(lambda: len(receiver.received) == 2, 10, webhook_service.logs)

    first, second = (r.verified(secret_of(webhook_service, key)) for r in receiver.received)
    assert first == second
    assert first["type"] == "batch.completed"
    assert first["data"]["id"] == batch_id and first["data"]["name"] == "night"
    assert first["data"]["counts"]["succeeded"] == 3
    assert first["timestamp"] == first["data"]["finishedAt"]
    assert (listed["jobId"], listed["batchId"]) == (None, batch_id)
    assert sent.status_code == 202 and sent.json()["batchId"] == batch_id


def test_another_customers_webhooks_do_not_exist(
    webhook_service: Service, key: dict[str, Any], headers: dict[str, str], stranger: dict[str, str]
) -> None:
    with receiving() as receiver:
        job_id = submit_with_webhook(webhook_service, headers, receiver.url)
        wait_until(lambda: webhook_of(webhook_service, headers, job_id)["state"] == "delivered", 20)
    webhook_id = webhook_of(webhook_service, headers, job_id)["id"]

    for method, path in (
        ("GET", f"/api/llm/jobs/{job_id}/webhooks"),
        ("POST", f"/api/webhooks/{webhook_id}/resend"),
        ("GET", f"/api/keys/{key['id']}/webhook-secret"),
    ):
        response = webhook_service.call(method, path, headers=stranger)
        assert (response.status_code, error_of(response)) == (404, "not_found"), path
    assert webhook_service.call("GET", "/api/webhooks", headers=stranger).json()["data"] == []
    assert len(receiver.received) == 1
    admin = webhook_service.sign_in_admin()
    of_all_users = webhook_service.call("GET", "/api/webhooks?limit=200", headers=admin).json()[
        "data"
    ]
    assert webhook_id in [webhook["id"] for webhook in of_all_users]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/llm/jobs/gen_{0}/webhooks"),
        ("POST", "/api/webhooks/msg_{0}/resend"),
        ("POST", "/api/webhooks/x/resend"),
        ("GET", "/api/keys/key_{0}/webhook-secret"),
    ],
)
def test_an_unknown_webhook_or_job_is_not_found(
    webhook_service: Service, method: str, path: str
) -> None:
    response = webhook_service.call(
        method, path.format("0" * 32), headers=webhook_service.sign_in_admin()
    )

    assert (response.status_code, error_of(response)) == (404, "not_found")


def test_only_the_owner_reads_the_signing_secret(
    webhook_service: Service, key: dict[str, Any], headers: dict[str, str], stranger: dict[str, str]
) -> None:
    path = f"/api/keys/{key['id']}/webhook-secret"
    made = webhook_service.call("POST", "/api/keys", json={"name": "k"}, headers=stranger).json()
    other_key_path = f"/api/keys/{made['id']}/webhook-secret"

    # Neither an API key nor an admin may read the secret that signs the messages.
    assert webhook_service.call("GET", path, headers=headers).status_code == 401
    assert (
        webhook_service.call(
            "GET", other_key_path, headers=webhook_service.sign_in_admin()
        ).status_code
        == 404
    )
    serialized = webhook_service.call("GET", other_key_path, headers=stranger)
    assert serialized.json()["secret"] != secret_of(webhook_service, key)
    assert serialized.headers["cache-control"] == "no-store"


def test_webhooks_are_listed_by_state_and_page(
    webhook_service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    job_id = submit_with_webhook(webhook_service, headers, "http://127.0.0.1:1024/")
    add_deliveries(rows, job_id, "http://127.0.0.1:1024/x", 3, state="failed")

    first = webhook_service.call(
        "GET", "/api/webhooks?state=failed&limit=2", headers=headers
    ).json()
    rest = webhook_service.call(
        "GET",
        f"/api/webhooks?state=failed&limit=200&after={first['nextCursor']}",
        headers=headers,
    ).json()

    serialized = first["data"] + rest["data"]
    assert len(first["data"]) == 2
    assert {webhook["state"] for webhook in serialized} == {"failed"}
    assert [w["id"] for w in serialized] == sorted((w["id"] for w in serialized), reverse=True)
    wrong = webhook_service.call("GET", "/api/webhooks?state=lost", headers=headers)
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "state")


def add_deliveries(
    rows: SessionFactory, job_id: str, url: str, n: int, **values: Any
) -> list[UUID]:
    with rows.begin() as session:
        job = session.get_one(Job, parse_id(Prefix.JOB, job_id))
        made = [
            WebhookDelivery(
                user_id=job.user_id,
                api_key_id=job.api_key_id,
                job_id=job.id,
                url=url,
                event="job.succeeded",
                payload={"finishedAt": None},
                **values,
            )
            for _ in range(n)
        ]
        session.add_all(made)
    return [delivery.id for delivery in made]


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
