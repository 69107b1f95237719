"""What a key or a user had begun ends with them: what waits costs nothing, what runs ends soon."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import func, select

from core.ids import Prefix, read_id
from core.settings import Settings
from models.api_key import ApiKey
from models.base import open_database, sessions
from models.job import Job, JobState
from models.usage import Usage
from tests.api.accounts import Account, register
from tests.api.sse import events
from tests.api.test_cancel import LONG
from tests.models.factories import add_job
from tests.service import Service, wait_until

#: What ends a key's work.
HOW = ["delete key", "switch key off", "delete user", "suspend user"]
#: Several transactions of the cancel.
OPEN = 3000


def end(paced: Service, account: Account, key: dict[str, Any], how: str) -> requests.Response:
    path = f"/api/keys/{key['id']}" if "key" in how else f"/api/users/{account.id}"
    headers = account.headers if "key" in how else paced.sign_in_admin()
    if "delete" in how:
        return paced.call("DELETE", path, headers=headers)
    return paced.call("PUT", path, headers=headers, json={"isActive": False})


def states_of(service: Service, key: dict[str, Any]) -> dict[str, int]:
    engine = open_database(service.settings)
    with sessions(engine)() as session:
        rows = session.execute(
            select(Job.state, func.count())
            .where(Job.api_key_id == read_id(Prefix.KEY, key["id"]))
            .group_by(Job.state)
        )
        found = {state: count for state, count in rows}
    engine.dispose()
    return found


def submit(service: Service, key: dict[str, Any]) -> None:
    headers = {"x-api-key": key["secret"]}
    assert service.call("POST", "/api/llm/jobs", json=LONG, headers=headers).status_code == 202


def in_background(what: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(what()), daemon=True)
    thread.start()
    return thread, got


@pytest.mark.parametrize("how", HOW)
def test_the_jobs_of_a_key_that_may_not_be_used_any_more_end_within_a_second(
    paced: Service, how: str
) -> None:
    account = register(paced)
    key = account.make_key()
    for _ in range(4):
        submit(paced, key)
    wait_until(lambda: states_of(paced, key).get(JobState.RUNNING) == 4, 20)

    assert end(paced, account, key, how).status_code in (200, 204)

    began = time.monotonic()
    wait_until(lambda: states_of(paced, key) == {JobState.CANCELLED: 4}, 10)
    assert time.monotonic() - began < 2  # a second, beside other tests


def test_who_waits_and_who_follows_a_stream_hear_of_the_end(paced: Service) -> None:
    account = register(paced)
    key = account.make_key()
    headers = {"x-api-key": key["secret"]}
    address = f"{paced.url}/api/llm/generate"

    def stream() -> list[Any]:
        body = {**LONG, "stream": True}
        return list(events(requests.post(address, json=body, headers=headers, stream=True)))

    waiting, waited = in_background(lambda: requests.post(address, json=LONG, headers=headers))
    following, followed = in_background(stream)
    wait_until(lambda: states_of(paced, key).get(JobState.RUNNING) == 2, 20)

    end(paced, account, key, "delete key")

    waiting.join(10)
    following.join(10)
    assert waited[0].json()["choices"][0]["finish_reason"] == "cancelled"
    assert followed[0][-2].json["choices"][0]["finish_reason"] == "cancelled"
    assert states_of(paced, key) == {JobState.CANCELLED: 2}


@pytest.fixture
def without_workers(base_settings: Settings, tmp_path: Path) -> Iterator[Service]:
    """A service in which no job begins: a worker's reaper would put what waits on the queue."""
    with Service.started(base_settings, tmp_path, workers=0) as service:
        yield service


def test_thousands_of_open_jobs_do_not_hold_up_the_end_and_cost_nothing(
    without_workers: Service,
) -> None:
    service = without_workers
    account = register(service)
    key = account.make_key()
    engine = open_database(service.settings)
    with sessions(engine).begin() as session:
        row = session.get_one(ApiKey, read_id(Prefix.KEY, key["id"]))
        for _ in range(OPEN):
            add_job(session, row, charged_tokens=9)

    before = time.monotonic()
    assert end(service, account, key, "delete key").status_code == 204
    assert time.monotonic() - before < 2

    wait_until(lambda: states_of(service, key) == {JobState.CANCELLED: OPEN}, 30)
    with sessions(engine)() as session:
        assert session.scalar(select(func.count()).where(Usage.api_key_id == row.id)) == 0
    engine.dispose()
    trail = service.call(
        "GET", "/api/admin/activity?action=key.delete&limit=1", headers=service.sign_in_admin()
    )
    assert trail.json()["data"][0]["details"] == {"name": "key", "jobs": OPEN, "batches": 0}
