"""Webhooks end to end: real workers, a real receiver, the official library as the judge."""

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

from core.ids import Prefix, read_id, show_id
from core.settings import Settings
from models.api_key import ApiKey
from models.base import SessionFactory, open_database, sessions, utc_now
from models.job import Job
from models.user import User
from models.webhook import WebhookDelivery
from tests.api.test_auth import error_of
from tests.models.batches import add_batch
from tests.models.factories import hash_quickly
from tests.receiver import Receiver, receiving
from tests.service import Service, free_port, wait_until

TIMEOUT = 2.0
DELIVERIES = 200


@pytest.fixture(scope="module")
def hooked(
    base_settings: Settings, _redis: redis.Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Two workers that may call receivers on this machine."""
    changes = {"webhook_allowed_networks": "127.0.0.0/8", "webhook_timeout_seconds": TIMEOUT}
    directory = tmp_path_factory.mktemp("hooked")
    with Service.started(base_settings, directory, workers=2, **changes) as running:
        yield running


@pytest.fixture(scope="module")
def rows(hooked: Service) -> Iterator[SessionFactory]:
    engine = open_database(hooked.settings)
    yield sessions(engine)
    engine.dispose()


@pytest.fixture(scope="module")
def key(hooked: Service) -> dict[str, Any]:
    return hooked.make_key()


@pytest.fixture(scope="module")
def headers(key: dict[str, Any]) -> dict[str, str]:
    return {"x-api-key": key["secret"]}


@pytest.fixture(scope="module")
def stranger(hooked: Service, rows: SessionFactory) -> dict[str, str]:
    """The headers of another customer."""
    with rows.begin() as session:
        user = User(email="stranger@example.com", password_hash=hash_quickly("stranger1"))
        session.add(user)
    return hooked.sign_in("stranger@example.com", "stranger1")


def submit(service: Service, headers: dict[str, str], url: str, **body: Any) -> str:
    answer = service.call(
        "POST",
        "/api/llm/generate",
        json={"prompt": "hello", "maxTokens": 5, "webhookUrl": url, **body},
        headers=headers,
    )
    assert answer.status_code in {200, 202}, answer.text
    return str(answer.json()["id"])


def webhook_of(service: Service, headers: dict[str, str], job_id: str) -> dict[str, Any]:
    answer = service.call("GET", f"/api/llm/jobs/{job_id}/webhooks", headers=headers)
    assert answer.status_code == 200, answer.text
    (webhook,) = answer.json()["data"]
    return dict(webhook)


def secret_of(service: Service, key: dict[str, Any]) -> str:
    place = f"/api/keys/{key['id']}/webhook-secret"
    answer = service.call("GET", place, headers=service.sign_in_admin())
    assert answer.status_code == 200, answer.text
    return str(answer.json()["secret"])


@pytest.mark.alone
def test_a_healthy_receiver_is_told_within_two_seconds(
    hooked: Service, key: dict[str, Any], headers: dict[str, str]
) -> None:
    with receiving() as receiver:
        job_id = submit(hooked, headers, receiver.url, metadata={"order": "7"})
        ended = time.monotonic()
        wait_until(lambda: receiver.received, 20, hooked.logs)
        wait_until(lambda: webhook_of(hooked, headers, job_id)["state"] == "delivered", 20)

    (received,) = receiver.received
    assert received.at - ended < 2
    message = received.verified(secret_of(hooked, key))
    assert message["type"] == "job.succeeded"
    job = hooked.call("GET", f"/api/llm/jobs/{job_id}", headers=headers).json()
    assert message["data"] == job
    assert job["result"]["usage"]["completion_tokens"] == 5
    webhook = webhook_of(hooked, headers, job_id)
    assert (webhook["jobId"], webhook["url"]) == (job_id, receiver.url)
    assert received.headers["webhook-id"] == webhook["id"]
    assert [(a["status"], a["error"]) for a in webhook["attempts"]] == [(200, None)]


@pytest.mark.alone
def test_a_receiver_that_fails_first_is_told_later(
    hooked: Service, headers: dict[str, str]
) -> None:
    with receiving(lambda place: (200 if place else 500, {})) as receiver:
        job_id = submit(hooked, headers, receiver.url)
        wait_until(lambda: webhook_of(hooked, headers, job_id)["state"] == "delivered", 20)

    first, second = receiver.received
    assert 5 <= second.at - first.at < 8
    assert len(set(receiver.ids)) == 1
    attempts = webhook_of(hooked, headers, job_id)["attempts"]
    assert [(a["status"], a["error"]) for a in attempts] == [(200, None), (500, "answered 500")]


def test_a_receiver_that_comes_up_late_is_told(hooked: Service, headers: dict[str, str]) -> None:
    port = free_port()
    job_id = submit(hooked, headers, f"http://127.0.0.1:{port}/hook")
    wait_until(lambda: webhook_of(hooked, headers, job_id)["attempts"], 20)
    webhook = webhook_of(hooked, headers, job_id)
    assert (webhook["state"], webhook["attempts"][0]["error"]) == ("pending", "no connection")
    assert webhook["nextAttemptAt"] is not None

    with receiving(port=port) as receiver:
        wait_until(lambda: webhook_of(hooked, headers, job_id)["state"] == "delivered", 20)

    assert len(receiver.received) == 1


def test_a_receiver_that_never_answers_and_one_that_redirects_are_failures(
    hooked: Service, headers: dict[str, str]
) -> None:
    released = threading.Event()

    def wait(place: int) -> tuple[int, dict[str, str]]:
        released.wait(30)
        return 200, {}

    with (
        receiving() as inside,
        receiving(lambda place: (307, {"Location": inside.url})) as redirecting,
        receiving(wait) as silent,
    ):
        jobs = [submit(hooked, headers, receiver.url) for receiver in (redirecting, silent)]
        for job_id in jobs:
            wait_until(lambda j=job_id: webhook_of(hooked, headers, j)["attempts"], 20)
        released.set()

    webhooks = [webhook_of(hooked, headers, job_id) for job_id in jobs]
    assert [webhook["attempts"][-1]["error"] for webhook in webhooks] == [
        "redirects are not followed",
        "no answer within 2 s",
    ]
    assert webhooks[1]["attempts"][-1]["durationMs"] >= 1000 * TIMEOUT
    assert inside.connections == 0


def test_jobs_that_end_otherwise_have_their_events(
    hooked: Service, key: dict[str, Any], headers: dict[str, str], rows: SessionFactory
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
            owner = session.get_one(ApiKey, read_id(Prefix.KEY, key["id"]))
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
        wait_until(lambda: len(receiver.received) == 3, 20, hooked.logs)

    secret = secret_of(hooked, key)
    messages = {m["type"]: m["data"] for m in (r.verified(secret) for r in receiver.received)}
    assert {event: data["status"] for event, data in messages.items()} == {
        "job.failed": "failed",
        "job.cancelled": "cancelled",
        "job.expired": "expired",
    }
    assert messages["job.failed"]["error"]["code"] == "worker_lost"
    for event, job in jobs.items():
        assert messages[event]["id"] == show_id(Prefix.JOB, job.id)


def test_two_workers_send_many_messages_once_each(
    hooked: Service, key: dict[str, Any], headers: dict[str, str], rows: SessionFactory
) -> None:
    job_id = submit(hooked, headers, "http://127.0.0.1:1024/")
    with receiving() as receiver:
        add_deliveries(rows, job_id, receiver.url, DELIVERIES)
        wait_until(lambda: pending(rows, receiver) == 0, 60, hooked.logs)
        time.sleep(1)

    assert len(receiver.ids) == len(set(receiver.ids)) == DELIVERIES
    sent = [
        log.read_text().count('"message": "webhook"')
        for log in hooked.directory.glob("worker-*.log")
    ]
    assert len(sent) == 2
    assert min(sent) > DELIVERIES // 10


def test_a_message_is_sent_again_on_demand_and_that_is_noted(
    hooked: Service, headers: dict[str, str]
) -> None:
    with receiving() as receiver:
        job_id = submit(hooked, headers, receiver.url)
        wait_until(lambda: webhook_of(hooked, headers, job_id)["state"] == "delivered", 20)
        webhook_id = webhook_of(hooked, headers, job_id)["id"]

        again = hooked.call("POST", f"/api/webhooks/{webhook_id}/resend", headers=headers)

        assert (again.status_code, again.json()["state"]) == (202, "pending")
        wait_until(lambda: len(receiver.received) == 2, 20)
        wait_until(lambda: webhook_of(hooked, headers, job_id)["state"] == "delivered", 20)
    assert receiver.ids == [webhook_id] * 2
    assert len(webhook_of(hooked, headers, job_id)["attempts"]) == 2
    activity = hooked.call(
        "GET", f"/api/admin/activity?target={webhook_id}", headers=hooked.sign_in_admin()
    ).json()["data"]
    (entry,) = activity
    assert (entry["action"], entry["targetId"]) == ("webhook.resend", webhook_id)
    assert entry["details"] == {"jobId": job_id, "stateBefore": "delivered"}


def test_the_webhook_of_a_batch_is_sent_listed_and_sent_again(
    hooked: Service, rows: SessionFactory, key: dict[str, Any], headers: dict[str, str]
) -> None:
    key_id = read_id(Prefix.KEY, key["id"])

    def newest() -> dict[str, Any]:
        return dict(hooked.call("GET", "/api/webhooks", headers=headers).json()["data"][0])

    with receiving() as receiver:
        with rows.begin() as session:
            owner = session.get_one(ApiKey, key_id)
            batch = add_batch(session, owner, lines=3, webhook_url=receiver.url, name="night")
        batch_id = show_id(Prefix.BATCH, batch.id)
        wait_until(lambda: receiver.received, 20, hooked.logs)
        wait_until(lambda: newest()["state"] == "delivered", 20, hooked.logs)
        listed = newest()
        sent = hooked.call("POST", f"/api/webhooks/{listed['id']}/resend", headers=headers)
        wait_until(lambda: len(receiver.received) == 2, 20, hooked.logs)

    first, second = (r.verified(secret_of(hooked, key)) for r in receiver.received)
    assert first == second
    assert first["type"] == "batch.completed"
    assert first["data"]["id"] == batch_id and first["data"]["name"] == "night"
    assert first["data"]["counts"]["succeeded"] == 3
    assert first["timestamp"] == first["data"]["finishedAt"]
    assert (listed["jobId"], listed["batchId"]) == (None, batch_id)
    assert sent.status_code == 202 and sent.json()["batchId"] == batch_id


def test_another_customers_webhooks_do_not_exist(
    hooked: Service, key: dict[str, Any], headers: dict[str, str], stranger: dict[str, str]
) -> None:
    with receiving() as receiver:
        job_id = submit(hooked, headers, receiver.url)
        wait_until(lambda: webhook_of(hooked, headers, job_id)["state"] == "delivered", 20)
    webhook_id = webhook_of(hooked, headers, job_id)["id"]

    for method, place in (
        ("GET", f"/api/llm/jobs/{job_id}/webhooks"),
        ("POST", f"/api/webhooks/{webhook_id}/resend"),
        ("GET", f"/api/keys/{key['id']}/webhook-secret"),
    ):
        answer = hooked.call(method, place, headers=stranger)
        assert (answer.status_code, error_of(answer)) == (404, "not_found"), place
    assert hooked.call("GET", "/api/webhooks", headers=stranger).json()["data"] == []
    assert len(receiver.received) == 1
    admin = hooked.sign_in_admin()
    everyones = hooked.call("GET", "/api/webhooks?limit=200", headers=admin).json()["data"]
    assert webhook_id in [webhook["id"] for webhook in everyones]


@pytest.mark.parametrize(
    ("method", "place"),
    [
        ("GET", "/api/llm/jobs/gen_{0}/webhooks"),
        ("POST", "/api/webhooks/msg_{0}/resend"),
        ("POST", "/api/webhooks/x/resend"),
        ("GET", "/api/keys/key_{0}/webhook-secret"),
    ],
)
def test_what_is_not_there_is_not_found(hooked: Service, method: str, place: str) -> None:
    answer = hooked.call(method, place.format("0" * 32), headers=hooked.sign_in_admin())

    assert (answer.status_code, error_of(answer)) == (404, "not_found")


def test_the_secret_is_shown_to_its_owner_alone(
    hooked: Service, key: dict[str, Any], headers: dict[str, str], stranger: dict[str, str]
) -> None:
    place = f"/api/keys/{key['id']}/webhook-secret"
    made = hooked.call("POST", "/api/keys", json={"name": "k"}, headers=stranger).json()
    strangers = f"/api/keys/{made['id']}/webhook-secret"

    # A program's key does not show what its messages are signed with, nor does an admin see it.
    assert hooked.call("GET", place, headers=headers).status_code == 401
    assert hooked.call("GET", strangers, headers=hooked.sign_in_admin()).status_code == 404
    shown = hooked.call("GET", strangers, headers=stranger)
    assert shown.json()["secret"] != secret_of(hooked, key)
    assert shown.headers["cache-control"] == "no-store"


def test_the_list_is_by_state_and_by_cursor(
    hooked: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    job_id = submit(hooked, headers, "http://127.0.0.1:1024/")
    add_deliveries(rows, job_id, "http://127.0.0.1:1024/x", 3, state="failed")

    first = hooked.call("GET", "/api/webhooks?state=failed&limit=2", headers=headers).json()
    rest = hooked.call(
        "GET",
        f"/api/webhooks?state=failed&limit=200&after={first['nextCursor']}",
        headers=headers,
    ).json()

    shown = first["data"] + rest["data"]
    assert len(first["data"]) == 2
    assert {webhook["state"] for webhook in shown} == {"failed"}
    assert [w["id"] for w in shown] == sorted((w["id"] for w in shown), reverse=True)
    wrong = hooked.call("GET", "/api/webhooks?state=lost", headers=headers)
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "state")


def add_deliveries(
    rows: SessionFactory, job_id: str, url: str, n: int, **values: Any
) -> list[UUID]:
    with rows.begin() as session:
        job = session.get_one(Job, read_id(Prefix.JOB, job_id))
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
