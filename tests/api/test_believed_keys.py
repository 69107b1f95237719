"""A key that a process looked up a moment ago is believed; what happens to it counts at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from sqlalchemy import func, select

from api.app import create_app
from api.services import Services
from core.key_secret import KeySecret
from core.settings import Settings
from models.api_key import ApiKey, create_key, delete_key, delete_keys_of, rotate_secret
from models.base import Session, SessionFactory, utc_now
from models.job import Job
from models.job_inserts import JobInserts
from models.presented_key import PresentedKey
from models.user import User, delete_user
from tests.minute import wait_for_room
from tests.models.factories import add_user
from tests.service import wait_until

JOBS = "/api/llm/jobs"
GRACE = timedelta(seconds=2)


@dataclass
class Process:
    """What an API process has of its own."""

    services: Services
    app: FlaskClient

    def ask(self, secret: KeySecret, **options: Any) -> tuple[int, str | None]:
        """Ask for a job; returns the status and the code of an error."""
        headers = {"x-api-key": secret.text, **options.pop("headers", {})}
        answer = self.app.post(JOBS, headers=headers, **{"json": {"prompt": "x"}, **options})
        return answer.status_code, (answer.get_json().get("error") or {}).get("code")

    def believe(self, secret: KeySecret) -> None:
        """Ask until the key is believed."""
        for _ in range(2):
            assert self.ask(secret) == (202, None)
        assert self.services.keys.believed(secret) is not None


@pytest.fixture
def processes(base_settings: Settings, client: redis.Redis) -> Iterator[list[Process]]:
    opened = [Services.from_settings(base_settings) for _ in range(2)]
    yield [Process(services, create_app(services).test_client()) for services in opened]
    for services in opened:
        services.news.close()


@pytest.fixture
def secret(database: SessionFactory, processes: list[Process]) -> KeySecret:
    """Of a key that both processes believe; four of its requests were charged.

    The minute has room for a test, so that these still count.
    """
    wait_for_room()
    with database.begin() as session:
        secret = create_key(session, user_id=add_user(session).id, name="k", rate_limit=9)[1]
    for process in processes:
        process.believe(secret)
    return secret


def change(
    database: SessionFactory, secret: KeySecret, act: Callable[[Session, ApiKey], Any]
) -> None:
    with database.begin() as session:
        key = session.scalars(select(ApiKey).where(ApiKey.public_id == secret.public_id)).one()
        act(session, key)


def jobs(database: SessionFactory) -> int:
    with database() as session:
        return session.scalar(select(func.count()).select_from(Job)) or 0


def revoke(session: Session, key: ApiKey) -> None:
    delete_key(session, key)


def deactivate(session: Session, key: ApiKey) -> None:
    key.is_active = False


def expire(session: Session, key: ApiKey) -> None:
    key.expires_at = utc_now()


def rotate(session: Session, key: ApiKey) -> None:
    rotate_secret(session, key, grace=timedelta(0))


def delete_owner(session: Session, key: ApiKey) -> None:
    delete_user(session, session.get_one(User, key.user_id))


def delete_owner_and_keys(session: Session, key: ApiKey) -> None:
    delete_owner(session, key)
    delete_keys_of(session, key.user_id)


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (revoke, (401, "invalid_api_key")),
        (deactivate, (403, "key_inactive")),
        (expire, (403, "key_expired")),
        (rotate, (401, "invalid_api_key")),
        (delete_owner, (401, "invalid_api_key")),
        (delete_owner_and_keys, (401, "invalid_api_key")),
    ],
)
def test_an_end_of_the_key_counts_for_the_next_request_of_each_process(
    database: SessionFactory,
    processes: list[Process],
    secret: KeySecret,
    act: Callable[[Session, ApiKey], None],
    told: tuple[int, str],
) -> None:
    before = jobs(database)

    change(database, secret, act)

    assert [process.ask(secret) for process in processes] == [told, told]
    assert [process.ask(secret) for process in processes] == [told, told]
    assert jobs(database) == before


@pytest.mark.parametrize(
    "options",
    [
        {"json": {"prompt": "x", "stream": True}},
        {"json": {"prompt": "x", "temperature": 0, "cache": True}},
        {"headers": {"Idempotency-Key": "one"}},
        {"json": {"prompt": "x", "surprise": 1}},
        {"json": {"prompt": "x", "model": "another"}},
        {"data": "no JSON", "json": None},
    ],
    ids=["stream", "cache", "idempotent", "bad", "refused", "no JSON"],
)
def test_whatever_is_asked_under_a_revoked_key_the_key_is_what_is_refused(
    database: SessionFactory,
    processes: list[Process],
    secret: KeySecret,
    options: dict[str, Any],
) -> None:
    before = jobs(database)

    change(database, secret, revoke)

    told = (401, "invalid_api_key")
    assert [process.ask(secret, **options) for process in processes] == [told, told]
    assert jobs(database) == before


def test_a_request_under_a_key_that_ended_is_charged_nothing(
    database: SessionFactory, processes: list[Process], secret: KeySecret
) -> None:
    change(database, secret, revoke)
    with database() as session:
        key_id = session.scalars(select(ApiKey.id)).one()

    for process in processes:
        assert process.ask(secret)[0] == 401

    assert len(processes[0].services.limiter.in_flight(key_id)) == jobs(database) == 4


def test_a_key_that_ends_while_it_is_looked_up_again_is_refused(
    database: SessionFactory,
    processes: list[Process],
    secret: KeySecret,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    insert, tries = JobInserts.insert, []

    def insert_late(self: JobInserts, job: Job, key: PresentedKey) -> bool:
        tries.append(key)
        if len(tries) == 2:
            change(database, secret, deactivate)
        return insert(self, job, key)

    monkeypatch.setattr(JobInserts, "insert", insert_late)
    change(database, secret, lambda session, key: setattr(key, "rate_limit", 8))

    assert processes[0].ask(secret) == (403, "key_inactive")
    assert [key.is_believed for key in tries] == [True, False]


def test_a_lowered_limit_counts_for_the_next_request_of_each_process(
    database: SessionFactory, processes: list[Process], secret: KeySecret
) -> None:
    change(database, secret, lambda session, key: setattr(key, "rate_limit", 4))

    refused = (429, "rate_limit_exceeded")
    assert [process.ask(secret) for process in processes] == [refused, refused]


def test_a_raised_limit_counts_for_the_next_request_of_each_process(
    database: SessionFactory, processes: list[Process], secret: KeySecret
) -> None:
    change(database, secret, lambda session, key: setattr(key, "rate_limit", 5))
    assert processes[0].ask(secret) == (202, None)
    for process in processes:
        assert process.ask(secret) == (429, "rate_limit_exceeded")
        assert process.services.keys.believed(secret) is not None

    change(database, secret, lambda session, key: setattr(key, "rate_limit", 7))

    assert [process.ask(secret) for process in processes] == [(202, None), (202, None)]


def test_a_changed_priority_counts_for_the_next_job_of_each_process(
    database: SessionFactory, processes: list[Process], secret: KeySecret
) -> None:
    change(database, secret, lambda session, key: setattr(key, "priority", 5))

    for process in processes:
        assert process.ask(secret) == (202, None)

    with database() as session:
        newest = session.scalars(select(Job.priority).order_by(Job.id.desc()).limit(2)).all()
    assert newest == [5, 5]


def test_a_key_that_came_back_counts_at_once(
    database: SessionFactory, processes: list[Process], secret: KeySecret
) -> None:
    change(database, secret, deactivate)
    assert processes[0].ask(secret)[0] == 403

    change(database, secret, lambda session, key: setattr(key, "is_active", True))

    assert [process.ask(secret) for process in processes] == [(202, None), (202, None)]


@pytest.mark.parametrize("what", ["old secret", "key"])
def test_time_ends_a_believed_key_without_any_change(
    database: SessionFactory, processes: list[Process], secret: KeySecret, what: str
) -> None:
    def end_soon(session: Session, key: ApiKey) -> None:
        if what == "key":
            key.expires_at = utc_now() + GRACE
        else:
            rotate_secret(session, key, grace=GRACE)

    change(database, secret, end_soon)
    ends = utc_now() + GRACE
    told = (403, "key_expired") if what == "key" else (401, "invalid_api_key")
    for process in processes:
        assert process.ask(secret) == (202, None)
        assert process.services.keys.believed(secret) is not None

    wait_until(lambda: utc_now() >= ends, 20)

    assert [process.ask(secret) for process in processes] == [told, told]


def test_another_secret_of_a_believed_key_proves_nothing(
    processes: list[Process], secret: KeySecret
) -> None:
    forged = KeySecret(secret.public_id, KeySecret.generate().random)

    assert processes[0].ask(forged) == (401, "invalid_api_key")
    assert processes[0].ask(secret) == (202, None)
