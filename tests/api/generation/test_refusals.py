"""Generations that are refused for their credentials or bodies: a clear error, and no job."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select, update

from core.ids import Prefix, parse_id
from models.accounts.api_key import ApiKey
from models.accounts.user import User
from models.jobs.job import Job
from tests.support.factories.rows import hash_quickly
from tests.support.http.errors import error_of
from tests.support.http.jobs import generate
from tests.support.service import Service


def jobs_in(service: Service) -> int:
    with service.sessions() as session:
        count = session.scalar(select(func.count()).select_from(Job))
    return int(count or 0)


def test_another_users_key_id_is_refused(service: Service, key: dict[str, Any]) -> None:
    with service.sessions.begin() as session:
        session.add(User(email="thief@example.com", password_hash=hash_quickly("thief-thief")))
    headers = {**service.sign_in("thief@example.com", "thief-thief"), "x-api-key-id": key["id"]}

    response = service.call("POST", "/api/llm/generate", json={"prompt": "x"}, headers=headers)

    assert (response.status_code, error_of(response)) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"is_active": False}, "key_inactive"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "key_expired"),
    ],
)
def test_an_inactive_or_expired_key_stops_at_once(
    service: Service, changes: dict[str, Any], code: str
) -> None:
    fresh = service.make_key()
    with service.sessions.begin() as session:
        key_id = parse_id(Prefix.KEY, fresh["id"])
        session.execute(update(ApiKey).where(ApiKey.id == key_id).values(**changes))

    response = generate(service, fresh, prompt="x")

    assert (response.status_code, error_of(response)) == (403, code)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_credentials"),
        ({"Authorization": "Bearer bc_nonsense"}, "invalid_api_key"),
        ({"x-api-key": "sk-other"}, "invalid_api_key"),
        ({"Authorization": "Bearer bc_000000000000_" + "A" * 43}, "invalid_api_key"),
        ({"x-api-key-id": "key_00000000000000000000000000000000"}, "missing_credentials"),
    ],
)
def test_missing_and_foreign_credentials_are_refused(
    service: Service, headers: dict[str, str], code: str
) -> None:
    response = service.call("POST", "/api/llm/generate", json={"prompt": "x"}, headers=headers)

    assert (response.status_code, error_of(response)) == (401, code)


BAD_BODIES = [
    (b"{", 400, "invalid_json"),
    (b"", 400, "invalid_json"),
    (b"[]", 400, "invalid_request"),
    (b'"text"', 400, "invalid_request"),
    (b"\xff\xfe", 400, "invalid_json"),
    (b"[" * 100_000, 400, "invalid_request"),
    (b'{"prompt": ""}', 400, "invalid_request"),
    (b'{"prompt": "NUL \\u0000"}', 400, "invalid_request"),
    (b'{"prompt": "x", "maxTokens": -1}', 400, "invalid_request"),
    (b'{"prompt": "x", "maxTokens": 8193}', 400, "invalid_request"),
    (b'{"prompt": "x", "temperature": NaN}', 400, "invalid_request"),
    (b'{"prompt": "x", "model": "gpt-4"}', 404, "model_not_found"),
    (b'{"prompt": "' + b"word " * 100_000 + b'"}', 400, "context_length_exceeded"),
    (b'{"prompt": "' + b"a" * 10_000_000 + b'"}', 413, "payload_too_large"),
]


@pytest.mark.parametrize(
    ("body", "status", "code"), BAD_BODIES, ids=[f"{b[:40]!r}" for b, _, _ in BAD_BODIES]
)
def test_bad_input_is_a_clear_error_and_leaves_no_job(
    service: Service, key: dict[str, Any], body: bytes, status: int, code: str
) -> None:
    before = jobs_in(service)
    headers = {"x-api-key": key["secret"], "Content-Type": "application/json"}

    response = service.call("POST", "/api/llm/generate", data=body, headers=headers)

    assert (response.status_code, error_of(response)) == (status, code)
    assert "Traceback" not in response.text
    assert jobs_in(service) == before


def test_a_chunked_body_without_a_length_is_bounded_too(
    service: Service, key: dict[str, Any]
) -> None:
    headers = {"x-api-key": key["secret"], "Content-Type": "application/json"}

    response = service.call(
        "POST", "/api/llm/generate", data=(b"a" * 65536 for _ in range(64)), headers=headers
    )

    assert (response.status_code, error_of(response)) == (413, "payload_too_large")


def test_all_faults_are_reported_at_once(service: Service, key: dict[str, Any]) -> None:
    error = generate(service, key, prompt="x", maxTokens=-1, topP=7, surprise=True).json()["error"]

    assert {fault["param"] for fault in error["fields"]} == {"maxTokens", "topP", "surprise"}
    assert "surprise is not a known field" in error["message"]


def test_a_prompt_too_long_says_both_numbers(service: Service, key: dict[str, Any]) -> None:
    message = generate(service, key, prompt="word " * 9000).json()["error"]["message"]

    assert "8192" in message
    assert "90" in message


def test_another_content_type_is_refused(service: Service, key: dict[str, Any]) -> None:
    response = service.call(
        "POST", "/api/llm/generate", data="prompt=x", headers={"x-api-key": key["secret"]}
    )

    assert (response.status_code, error_of(response)) == (415, "unsupported_media_type")
