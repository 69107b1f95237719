"""Webhooks as their owner lists and resends them, and as others do not see them."""

from __future__ import annotations

from typing import Any

import pytest

from core.ids import Prefix, format_id, parse_id
from models.accounts.api_key import ApiKey
from models.accounts.user import User
from models.database.base import SessionFactory
from tests.support.factories.batches import add_batch
from tests.support.factories.rows import hash_quickly
from tests.support.http.errors import error_of
from tests.support.http.webhooks import add_deliveries, secret_of, submit_with_webhook, webhook_of
from tests.support.polling import wait_until
from tests.support.service import Service
from tests.support.webhook_receiver import receiving


@pytest.fixture(scope="module")
def stranger(webhook_service: Service, rows: SessionFactory) -> dict[str, str]:
    """The headers of another customer's key."""
    with rows.begin() as session:
        user = User(email="stranger@example.com", password_hash=hash_quickly("stranger1"))
        session.add(user)
    return webhook_service.sign_in("stranger@example.com", "stranger1")


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

    def newest_webhook() -> dict[str, Any]:
        listed = webhook_service.call("GET", "/api/webhooks", headers=headers).json()["data"]
        return dict(listed[0])

    with receiving() as receiver:
        with rows.begin() as session:
            owner = session.get_one(ApiKey, key_id)
            batch = add_batch(session, owner, lines=3, webhook_url=receiver.url, name="night")
        batch_id = format_id(Prefix.BATCH, batch.id)
        wait_until(lambda: receiver.received, 20, webhook_service.logs)
        wait_until(lambda: newest_webhook()["state"] == "delivered", 20, webhook_service.logs)
        listed = newest_webhook()
        sent = webhook_service.call("POST", f"/api/webhooks/{listed['id']}/resend", headers=headers)
        wait_until(lambda: len(receiver.received) == 2, 20, webhook_service.logs)

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
