from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from sqlalchemy import func, select, update

from core.generation import Generation
from core.ids import Prefix, new_id, read_id, show_id
from core.prompt import PromptTokenizer
from models.api_key import ApiKey
from models.base import open_database, sessions
from models.job import Job
from models.usage import Usage
from models.user import User
from tests.api.test_auth import error_of
from tests.minute import wait_for_room
from tests.models.factories import hash_quickly
from tests.service import Service, wait_until


@pytest.fixture(scope="module")
def key(service: Service) -> dict[str, Any]:
    return service.make_key()


def generate(service: Service, key: dict[str, Any], **body: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {key['secret']}"}
    return service.call("POST", "/api/llm/generate", json=body, headers=headers)


def jobs_in(service: Service) -> int:
    engine = open_database(service.settings)
    with sessions(engine)() as session:
        count = session.scalar(select(func.count()).select_from(Job))
    engine.dispose()
    return int(count or 0)


def test_a_secret_key_alone_generates(
    service: Service, key: dict[str, Any], tokenizer: PromptTokenizer
) -> None:
    answer = generate(service, key, prompt="hello 🎉", maxTokens=50)

    body = answer.json()
    prompt_ids = tokenizer.encode(Generation(prompt="hello 🎉"))
    assert answer.status_code == 200
    assert body["object"] == "text_completion"
    assert body["id"].startswith("gen_")
    assert body["model"] == service.settings.model_name
    assert body["choices"] == [
        {"text": tokenizer.decode(prompt_ids), "index": 0, "finish_reason": "stop"}
    ]
    assert body["usage"]["prompt_tokens"] == len(prompt_ids)
    assert body["usage"]["total_tokens"] == 2 * len(prompt_ids)


def test_a_jwt_with_the_id_of_an_own_key_generates(service: Service, key: dict[str, Any]) -> None:
    headers = {**service.sign_in_admin(), "x-api-key-id": key["id"]}

    answer = service.call("POST", "/api/llm/generate", json={"prompt": "x"}, headers=headers)

    assert answer.status_code == 200


def test_usage_is_recorded_for_the_key(service: Service) -> None:
    fresh = service.make_key()
    usage = generate(service, fresh, prompt="count me").json()["usage"]

    engine = open_database(service.settings)
    with sessions(engine)() as session:
        key_id = read_id(Prefix.KEY, fresh["id"])
        row = session.scalars(select(Usage).where(Usage.api_key_id == key_id)).one()
    engine.dispose()

    assert row.prompt_tokens == usage["prompt_tokens"]
    assert row.completion_tokens == usage["completion_tokens"]


def test_messages_go_through_the_chat_template(service: Service, key: dict[str, Any]) -> None:
    answer = generate(service, key, messages=[{"role": "user", "content": "salut"}])

    assert "user\nsalut" in answer.json()["choices"][0]["text"]


def test_a_stop_string_ends_the_text(service: Service, key: dict[str, Any]) -> None:
    answer = generate(service, key, prompt="one two ### three", stop="###")

    choice = answer.json()["choices"][0]
    assert choice["text"].endswith("one two ")
    assert choice["finish_reason"] == "stop"


def test_every_answer_says_what_is_left_of_the_limit(service: Service) -> None:
    fresh = service.make_key(rateLimit=5)

    headers = generate(service, fresh, prompt="x").headers

    assert headers["x-ratelimit-limit-requests"] == "5"
    assert headers["x-ratelimit-remaining-requests"] == "4"
    assert headers["x-ratelimit-reset-requests"].endswith("s")


def test_a_limit_is_exact_over_processes_and_refusals_are_free(service: Service) -> None:
    assert service.settings.api_processes == 2
    fresh = service.make_key(rateLimit=20)
    wait_for_room(20)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: generate(service, fresh, prompt="x"), range(60)))

    codes = [answer.status_code for answer in answers]
    assert set(codes) == {200, 429}
    assert codes.count(200) == 20
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert error_of(refused) == "rate_limit_exceeded"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60


def test_a_job_can_be_read_by_its_owner_with_its_result(
    service: Service, key: dict[str, Any]
) -> None:
    made = generate(service, key, prompt="again").json()

    headers = {"x-api-key": key["secret"]}
    job = service.call("GET", f"/api/llm/jobs/{made['id']}", headers=headers).json()

    assert job["status"] == "succeeded"
    assert job["result"] == made
    assert job["usage"] == made["usage"]


def test_another_users_job_and_a_missing_one_look_the_same(
    service: Service, key: dict[str, Any]
) -> None:
    made = generate(service, key, prompt="mine").json()
    engine = open_database(service.settings)
    with sessions(engine).begin() as session:
        session.add(User(email="spy@example.com", password_hash=hash_quickly("spy-spy-spy")))
    engine.dispose()
    spy = service.sign_in("spy@example.com", "spy-spy-spy")

    foreign = service.call("GET", f"/api/llm/jobs/{made['id']}", headers=spy)
    missing = service.call("GET", f"/api/llm/jobs/{show_id(Prefix.JOB, new_id())}", headers=spy)
    nonsense = service.call("GET", "/api/llm/jobs/nonsense", headers=spy)

    for answer in (foreign, missing, nonsense):
        assert (answer.status_code, error_of(answer)) == (404, "not_found")
    assert foreign.json()["error"]["message"] == missing.json()["error"]["message"]


def test_another_users_key_id_is_refused(service: Service, key: dict[str, Any]) -> None:
    engine = open_database(service.settings)
    with sessions(engine).begin() as session:
        session.add(User(email="thief@example.com", password_hash=hash_quickly("thief-thief")))
    engine.dispose()
    headers = {**service.sign_in("thief@example.com", "thief-thief"), "x-api-key-id": key["id"]}

    answer = service.call("POST", "/api/llm/generate", json={"prompt": "x"}, headers=headers)

    assert (answer.status_code, error_of(answer)) == (401, "invalid_api_key")


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
    engine = open_database(service.settings)
    with sessions(engine).begin() as session:
        key_id = read_id(Prefix.KEY, fresh["id"])
        session.execute(update(ApiKey).where(ApiKey.id == key_id).values(**changes))
    engine.dispose()

    answer = generate(service, fresh, prompt="x")

    assert (answer.status_code, error_of(answer)) == (403, code)


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
    answer = service.call("POST", "/api/llm/generate", json={"prompt": "x"}, headers=headers)

    assert (answer.status_code, error_of(answer)) == (401, code)


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

    answer = service.call("POST", "/api/llm/generate", data=body, headers=headers)

    assert (answer.status_code, error_of(answer)) == (status, code)
    assert "Traceback" not in answer.text
    assert jobs_in(service) == before


def test_a_chunked_body_without_a_length_is_bounded_too(
    service: Service, key: dict[str, Any]
) -> None:
    headers = {"x-api-key": key["secret"], "Content-Type": "application/json"}

    answer = service.call(
        "POST", "/api/llm/generate", data=(b"a" * 65536 for _ in range(64)), headers=headers
    )

    assert (answer.status_code, error_of(answer)) == (413, "payload_too_large")


def test_all_faults_are_told_at_once(service: Service, key: dict[str, Any]) -> None:
    error = generate(service, key, prompt="x", maxTokens=-1, topP=7, surprise=True).json()["error"]

    assert {fault["param"] for fault in error["fields"]} == {"maxTokens", "topP", "surprise"}
    assert "surprise is not a known field" in error["message"]


def test_a_prompt_too_long_says_both_numbers(service: Service, key: dict[str, Any]) -> None:
    message = generate(service, key, prompt="word " * 9000).json()["error"]["message"]

    assert "8192" in message
    assert "90" in message


def test_another_content_type_is_refused(service: Service, key: dict[str, Any]) -> None:
    answer = service.call(
        "POST", "/api/llm/generate", data="prompt=x", headers={"x-api-key": key["secret"]}
    )

    assert (answer.status_code, error_of(answer)) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("DELETE", "/api/llm/generate", 405, "method_not_allowed"),
    ],
)
def test_unknown_places_and_methods_have_the_one_shape(
    service: Service, method: str, path: str, status: int, code: str
) -> None:
    answer = service.call(method, path)

    assert (answer.status_code, error_of(answer)) == (status, code)


def test_a_sane_request_id_is_kept_and_another_is_replaced(service: Service) -> None:
    sane = service.call("GET", "/healthz", headers={"x-request-id": "mine-42"})
    wild = service.call("GET", "/healthz", headers={"x-request-id": "a b<script>"})

    assert sane.headers["x-request-id"] == "mine-42"
    assert wild.headers["x-request-id"].startswith("req_")


def test_a_line_break_in_a_request_id_reaches_no_header(service: Service) -> None:
    place = urlsplit(service.url)
    with socket.create_connection((place.hostname, place.port), timeout=10) as raw:
        raw.sendall(
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"x-request-id: a\r\n x-evil: 1\r\n\r\n"
        )
        answer = b"".join(iter(lambda: raw.recv(65536), b""))

    assert b"\r\nx-evil" not in answer.lower()


def test_the_request_id_reaches_the_workers_log(service: Service, key: dict[str, Any]) -> None:
    headers = {"x-api-key": key["secret"], "x-request-id": "trace-me-7"}
    service.call("POST", "/api/llm/generate", json={"prompt": "x"}, headers=headers)

    def programs() -> set[str]:
        """Return who has written of the request; both write after they have answered."""
        lines = [line for line in service.logs().splitlines() if "trace-me-7" in line]
        return {json.loads(line)["program"] for line in lines}

    wait_until(lambda: programs() == {"api", "worker"}, 20, service.logs)


def test_no_secret_and_no_prompt_stands_in_any_log(service: Service, key: dict[str, Any]) -> None:
    generate(service, key, prompt="my very private prompt")
    generate(service, {"secret": key["secret"] + "x"}, prompt="my very private prompt")

    logs = service.logs()
    assert key["secret"] not in logs
    assert "private prompt" not in logs
    assert "admin123" not in logs


def test_the_models_list_says_who_is_ready(service: Service, key: dict[str, Any]) -> None:
    answer = service.call("GET", "/api/llm/models", headers={"x-api-key": key["secret"]})

    model = answer.json()["data"][0]
    assert model["id"] == service.settings.model_name
    assert model["contextLength"] == 8192
    assert model["readyWorkers"] == 1
    assert service.call("GET", "/api/llm/models").status_code == 401


def test_health_and_readiness_name_each_part(service: Service) -> None:
    assert service.call("GET", "/healthz").json() == {"status": "ok"}
    assert service.call("GET", "/readyz").json() == {
        "status": "ready",
        "parts": {"database": "ok", "redis": "ok", "workers": "ok"},
    }
