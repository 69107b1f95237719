"""Revoking a key or user ends its jobs: waiting jobs cost nothing, running jobs end soon."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
from sqlalchemy import func, select

from core.ids import Prefix, parse_id
from models.accounts.api_key import ApiKey
from models.jobs.job import Job, JobState
from models.usage.usage import Usage
from tests.support.factories.rows import add_job
from tests.support.http.accounts import Account, register
from tests.support.http.jobs import LONG_JOB
from tests.support.http.sse import events
from tests.support.polling import wait_until
from tests.support.service import Service

#: Requests that end the work of a key.
HOW = ["delete key", "switch key off", "delete user", "suspend user"]
#: More jobs than one transaction cancels.
OPEN = 3000


def end(
    slow_service: Service, account: Account, key: dict[str, Any], how: str
) -> requests.Response:
    path = f"/api/keys/{key['id']}" if "key" in how else f"/api/users/{account.id}"
    headers = account.headers if "key" in how else slow_service.sign_in_admin()
    if "delete" in how:
        return slow_service.call("DELETE", path, headers=headers)
    return slow_service.call("PUT", path, headers=headers, json={"isActive": False})


def states_of(service: Service, key: dict[str, Any]) -> dict[str, int]:
    with service.sessions() as session:
        rows = session.execute(
            select(Job.state, func.count())
            .where(Job.api_key_id == parse_id(Prefix.KEY, key["id"]))
            .group_by(Job.state)
        )
        found = {state: count for state, count in rows}
    return found


def submit(service: Service, key: dict[str, Any]) -> None:
    headers = {"x-api-key": key["secret"]}
    assert service.call("POST", "/api/llm/jobs", json=LONG_JOB, headers=headers).status_code == 202


def in_background(what: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(what()), daemon=True)
    thread.start()
    return thread, got


@pytest.mark.alone
@pytest.mark.parametrize("how", HOW)
def test_the_jobs_of_a_revoked_key_end_within_a_second(slow_service: Service, how: str) -> None:
    account = register(slow_service)
    key = account.make_key()
    for _ in range(4):
        submit(slow_service, key)
    wait_until(lambda: states_of(slow_service, key).get(JobState.RUNNING) == 4, 20)

    assert end(slow_service, account, key, how).status_code in (200, 204)

    began = time.monotonic()
    wait_until(lambda: states_of(slow_service, key) == {JobState.CANCELLED: 4}, 10)
    assert time.monotonic() - began < 2  # a second, and time for a slow machine


def test_clients_that_wait_or_stream_are_notified_when_their_key_is_deleted(
    slow_service: Service,
) -> None:
    account = register(slow_service)
    key = account.make_key()
    headers = {"x-api-key": key["secret"]}
    address = f"{slow_service.url}/api/llm/generate"

    def stream() -> list[Any]:
        body = {**LONG_JOB, "stream": True}
        return list(events(requests.post(address, json=body, headers=headers, stream=True)))

    waiting, waited = in_background(lambda: requests.post(address, json=LONG_JOB, headers=headers))
    following, followed = in_background(stream)
    wait_until(lambda: states_of(slow_service, key).get(JobState.RUNNING) == 2, 20)

    end(slow_service, account, key, "delete key")

    waiting.join(10)
    following.join(10)
    assert waited[0].json()["choices"][0]["finish_reason"] == "cancelled"
    assert followed[0][-2].json["choices"][0]["finish_reason"] == "cancelled"
    assert states_of(slow_service, key) == {JobState.CANCELLED: 2}


@pytest.mark.alone
def test_a_key_with_thousands_of_waiting_jobs_is_deleted_at_once_and_they_cost_nothing(
    service_without_workers: Service,
) -> None:
    """No worker runs here: its reaper would requeue the waiting jobs."""
    service = service_without_workers
    account = register(service)
    key = account.make_key()
    with service.sessions.begin() as session:
        row = session.get_one(ApiKey, parse_id(Prefix.KEY, key["id"]))
        for _ in range(OPEN):
            add_job(session, row, charged_tokens=9)

    before = time.monotonic()
    assert end(service, account, key, "delete key").status_code == 204
    assert time.monotonic() - before < 2

    wait_until(lambda: states_of(service, key) == {JobState.CANCELLED: OPEN}, 30)
    with service.sessions() as session:
        assert session.scalar(select(func.count()).where(Usage.api_key_id == row.id)) == 0
    trail = service.call(
        "GET", "/api/admin/activity?action=key.delete&limit=1", headers=service.sign_in_admin()
    )
    assert trail.json()["data"][0]["details"] == {"name": "key", "jobs": OPEN, "batches": 0}
