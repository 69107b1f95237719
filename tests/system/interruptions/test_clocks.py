"""All dates come from the database's clock, also when other machines have wrong clocks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import redis
from sqlalchemy import func, select, text

from core.config.settings import Settings
from core.ids import Prefix, parse_id
from core.webhooks.signature import WebhookSecret
from models.batches.batch import Batch
from models.database.base import SessionFactory, utc_now
from models.jobs.idempotency import IdempotencyKey
from models.jobs.job import Job
from models.webhooks.webhook import WebhookAttempt, WebhookDelivery
from tests.support.http.batch_files import PATH, batch_uuid, jsonl, made, requests_of
from tests.support.polling import wait_until
from tests.support.service import Service
from tests.support.webhook_receiver import receiving
from tests.system.faults.installation.clock import WallClocks

OFF = timedelta(hours=6)
#: The longest time of a call and of reading its row, on a busy machine.
SLACK = timedelta(seconds=60)
END_SECONDS = 60.0
NETWORKS = {"webhook_allowed_networks": "127.0.0.0/8"}


@pytest.fixture(scope="module", params=[1, -1], ids=["API ahead", "API behind"])
def skewed_service(
    request: pytest.FixtureRequest,
    base_settings: Settings,
    _redis: redis.Redis,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """An API whose clock is hours off, and a worker whose clock is off the other way."""
    environments = {}
    for program, sign in (("api", request.param), ("worker", -request.param)):
        clock = WallClocks(tmp_path_factory.mktemp(program))
        assert clock.can_step, "this test needs a C compiler"
        clock.step(None, sign * OFF.total_seconds())
        environments[program] = clock.environment
    directory = tmp_path_factory.mktemp("skewed")
    with Service.started(
        base_settings, directory, environments=environments, **NETWORKS
    ) as running:
        yield running


@pytest.fixture(scope="module")
def rows(skewed_service: Service) -> Iterator[SessionFactory]:
    yield skewed_service.sessions


@pytest.fixture
def headers(skewed_service: Service) -> dict[str, str]:
    return {"x-api-key": skewed_service.make_key()["secret"]}


def is_present(value: str | float) -> bool:
    """Return whether a time in a response of the API is about now."""
    when = value if isinstance(value, (int, float)) else datetime.fromisoformat(value).timestamp()
    return abs(when - time.time()) < SLACK.total_seconds()


def test_a_batch_has_its_whole_window(skewed_service: Service, headers: dict[str, str]) -> None:
    batch = made(skewed_service, headers, *requests_of(2), query="?completionWindow=90m")

    wait_until(
        lambda: batch_of(skewed_service, headers, batch)["status"] == "completed", END_SECONDS
    )

    ended = batch_of(skewed_service, headers, batch)
    assert is_present(ended["createdAt"]) and is_present(ended["finishedAt"])
    assert seconds_between(ended, "createdAt", "expiresAt") == 5400
    assert 0 <= seconds_between(ended, "createdAt", "startedAt") < SLACK.total_seconds()


def test_the_lines_of_a_batch_have_the_date_of_their_batch(
    skewed_service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    batch = made(skewed_service, headers, *requests_of(2))

    with rows() as session:
        dates = set(
            session.scalars(select(Job.created_at).where(Job.batch_id == batch_uuid(batch)))
        )
        assert dates == {session.get_one(Batch, batch_uuid(batch)).created_at}


def test_a_batch_can_be_sent_twice_with_its_idempotency_key(
    skewed_service: Service, headers: dict[str, str]
) -> None:
    sent = {**headers, "Idempotency-Key": "mine", "Content-Type": "application/jsonl"}
    responses = [
        skewed_service.call("POST", PATH, data=jsonl(*requests_of(1)), headers=sent)
        for _ in range(2)
    ]

    assert [response.status_code for response in responses] == [201, 200]
    assert len({response.json()["id"] for response in responses}) == 1


def test_a_cancel_is_dated(skewed_service: Service, headers: dict[str, str]) -> None:
    batch = made(
        skewed_service, headers, *({"prompt": "x " * 400, "maxTokens": 400} for _ in range(99))
    )

    response = skewed_service.call("POST", f"{PATH}/{batch['id']}/cancel", headers=headers)

    assert is_present(response.json()["cancelRequestedAt"])


def test_an_idempotency_key_lives_a_day(
    skewed_service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    body = {"prompt": "once", "maxTokens": 4}
    sent = {**headers, "Idempotency-Key": "twice"}
    first = skewed_service.call("POST", "/api/llm/generate", json=body, headers=sent).json()
    with rows.begin() as session:  # an hour of the day is left by the database's clock
        session.execute(text("update idempotency_keys set created_at = now() - interval '23h'"))

    repeated = skewed_service.call("POST", "/api/llm/generate", json=body, headers=sent).json()

    assert repeated["id"] == first["id"]
    with rows.begin() as session:
        session.execute(text("update idempotency_keys set created_at = now() - interval '25h'"))
    another = skewed_service.call("POST", "/api/llm/generate", json=body, headers=sent).json()
    assert another["id"] != first["id"]
    with rows() as session:
        claimed_at = session.scalar(select(func.max(IdempotencyKey.created_at)))
    assert claimed_at is not None and abs(claimed_at - utc_now()) < SLACK


def test_an_uploaded_file_exists_until_it_expires(
    skewed_service: Service, headers: dict[str, str], rows: SessionFactory
) -> None:
    file = upload(skewed_service, headers, b'{"custom_id": "a"}\n')
    path = f"/v1/files/{file['id']}"

    assert is_present(file["created_at"])
    assert file["expires_at"] - file["created_at"] == 3600
    assert skewed_service.call("GET", path, headers=headers).status_code == 200
    with rows.begin() as session:
        session.execute(text("update files set expires_at = now() - interval '1s'"))
    assert skewed_service.call("GET", path, headers=headers).status_code == 404


def test_a_deleted_file_is_gone_at_once(skewed_service: Service, headers: dict[str, str]) -> None:
    path = f"/v1/files/{upload(skewed_service, headers, b'{}')['id']}"
    skewed_service.call("DELETE", path, headers=headers)

    assert skewed_service.call("GET", path, headers=headers).status_code == 404


def test_a_refused_batch_is_dated(skewed_service: Service, headers: dict[str, str]) -> None:
    file = upload(skewed_service, headers, b'{"custom_id": "a"}\n')
    body = {
        "input_file_id": file["id"],
        "endpoint": "/v1/completions",
        "completion_window": "24h",
    }

    batch = skewed_service.call("POST", "/v1/batches", json=body, headers=headers).json()

    assert batch["status"] == "failed"
    assert is_present(batch["created_at"])


def test_keys_expire_by_the_clock_of_the_database(
    skewed_service: Service, rows: SessionFactory
) -> None:
    ends = utc_now() + timedelta(hours=1)
    key = skewed_service.make_key(expiresAt=ends.isoformat())

    assert is_present(key["createdAt"])
    assert ask(skewed_service, key["secret"]) == 200
    with rows.begin() as session:
        session.execute(text("update api_keys set expires_at = now() - interval '1s'"))
    assert ask(skewed_service, key["secret"]) == 403


def test_a_rotated_secret_has_its_grace(skewed_service: Service, rows: SessionFactory) -> None:
    key = skewed_service.make_key()
    path = f"/api/keys/{key['id']}/rotate"
    admin = skewed_service.sign_in_admin()

    rotated = skewed_service.call("POST", path, json={"graceSeconds": 3600}, headers=admin).json()

    ends = datetime.fromisoformat(rotated["previousSecretExpiresAt"])
    assert abs(ends - utc_now() - timedelta(hours=1)) < SLACK
    assert ask(skewed_service, key["secret"]) == 200
    with rows.begin() as session:
        session.execute(
            text("update api_keys set previous_secret_expires_at = now() - interval '1s'")
        )
    assert ask(skewed_service, key["secret"]) == 401


def test_usage_of_this_moment_is_in_the_report(skewed_service: Service) -> None:
    admin = skewed_service.sign_in_admin()
    before = skewed_service.call("GET", "/api/admin/overview", headers=admin).json()
    assert ask(skewed_service, skewed_service.make_key()["secret"]) == 200

    report = skewed_service.call("GET", "/api/usage", headers=admin).json()

    assert report["totals"]["requests"] > 0
    assert before["users"] == 1


def test_a_webhook_is_signed_for_receivers_with_right_clocks(
    skewed_service: Service, rows: SessionFactory
) -> None:
    key = skewed_service.make_key()
    key_id = parse_id(Prefix.KEY, key["id"])
    assert key_id is not None
    with receiving() as receiver:
        body = {"prompt": "say it", "maxTokens": 4, "webhookUrl": receiver.url}
        response = skewed_service.call(
            "POST", "/api/llm/generate", json=body, headers={"x-api-key": key["secret"]}
        )
        assert response.status_code == 200
        wait_until(lambda: state_of_message(rows, key_id) == "delivered", END_SECONDS)

    (received,) = receiver.received
    received.verified(WebhookSecret.of_key(skewed_service.settings, key_id).text)
    with rows() as session:
        tried_at = session.scalar(select(func.max(WebhookAttempt.at)))
    assert tried_at is not None and abs(tried_at - utc_now()) < SLACK


def batch_of(service: Service, headers: dict[str, str], batch: dict[str, Any]) -> dict[str, Any]:
    return dict(service.call("GET", f"{PATH}/{batch['id']}", headers=headers).json())


def seconds_between(batch: dict[str, Any], begin: str, end: str) -> float:
    times = [datetime.fromisoformat(batch[name]) for name in (begin, end)]
    return (times[1] - times[0]).total_seconds()


def upload(service: Service, headers: dict[str, str], data: bytes) -> dict[str, Any]:
    response = service.call(
        "POST",
        "/v1/files",
        files={"file": ("in.jsonl", data)},
        data={
            "purpose": "batch",
            "expires_after[anchor]": "created_at",
            "expires_after[seconds]": "3600",
        },
        headers=headers,
    )
    assert response.status_code == 200, response.text
    return dict(response.json())


def ask(service: Service, secret: str) -> int:
    body = {"prompt": "x", "maxTokens": 2}
    response = service.call("POST", "/api/llm/generate", json=body, headers={"x-api-key": secret})
    return int(response.status_code)


def state_of_message(rows: SessionFactory, key_id: UUID) -> str | None:
    with rows() as session:
        query = select(WebhookDelivery.state).where(WebhookDelivery.api_key_id == key_id)
        return session.scalar(query)
