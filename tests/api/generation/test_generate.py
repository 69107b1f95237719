"""Generations with their completions, usage and limits, and what the logs say about them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import select

from core.generation import Generation
from core.ids import Prefix, format_id, new_id, parse_id
from core.prompts.tokenizer import PromptTokenizer
from models.accounts.user import User
from models.usage.usage import Usage
from tests.support.factories.rows import hash_quickly
from tests.support.http.errors import error_of
from tests.support.http.jobs import generate
from tests.support.minute import wait_for_room
from tests.support.polling import wait_until
from tests.support.service import Service


def test_a_secret_key_alone_generates(
    service: Service, key: dict[str, Any], tokenizer: PromptTokenizer
) -> None:
    response = generate(service, key, prompt="hello 🎉", maxTokens=50)

    body = response.json()
    prompt_ids = tokenizer.encode(Generation(prompt="hello 🎉"))
    assert response.status_code == 200
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

    response = service.call("POST", "/api/llm/generate", json={"prompt": "x"}, headers=headers)

    assert response.status_code == 200


def test_usage_is_recorded_for_the_key(service: Service) -> None:
    fresh = service.make_key()
    usage = generate(service, fresh, prompt="count me").json()["usage"]

    with service.sessions() as session:
        key_id = parse_id(Prefix.KEY, fresh["id"])
        row = session.scalars(select(Usage).where(Usage.api_key_id == key_id)).one()

    assert row.prompt_tokens == usage["prompt_tokens"]
    assert row.completion_tokens == usage["completion_tokens"]


def test_messages_go_through_the_chat_template(service: Service, key: dict[str, Any]) -> None:
    response = generate(service, key, messages=[{"role": "user", "content": "salut"}])

    assert "user\nsalut" in response.json()["choices"][0]["text"]


def test_a_stop_string_ends_the_text(service: Service, key: dict[str, Any]) -> None:
    response = generate(service, key, prompt="one two ### three", stop="###")

    choice = response.json()["choices"][0]
    assert choice["text"].endswith("one two ")
    assert choice["finish_reason"] == "stop"


def test_every_response_has_the_remaining_limit(service: Service) -> None:
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
        responses = list(pool.map(lambda _: generate(service, fresh, prompt="x"), range(60)))

    codes = [response.status_code for response in responses]
    assert set(codes) == {200, 429}
    assert codes.count(200) == 20
    refused = next(response for response in responses if response.status_code == 429)
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


def test_another_users_job_and_a_missing_one_get_the_same_response(
    service: Service, key: dict[str, Any]
) -> None:
    made = generate(service, key, prompt="mine").json()
    with service.sessions.begin() as session:
        session.add(User(email="spy@example.com", password_hash=hash_quickly("spy-spy-spy")))
    spy = service.sign_in("spy@example.com", "spy-spy-spy")

    foreign = service.call("GET", f"/api/llm/jobs/{made['id']}", headers=spy)
    missing = service.call("GET", f"/api/llm/jobs/{format_id(Prefix.JOB, new_id())}", headers=spy)
    nonsense = service.call("GET", "/api/llm/jobs/nonsense", headers=spy)

    for response in (foreign, missing, nonsense):
        assert (response.status_code, error_of(response)) == (404, "not_found")
    assert foreign.json()["error"]["message"] == missing.json()["error"]["message"]


def test_the_request_id_reaches_the_workers_log(service: Service, key: dict[str, Any]) -> None:
    headers = {"x-api-key": key["secret"], "x-request-id": "trace-me-7"}
    service.call("POST", "/api/llm/generate", json={"prompt": "x"}, headers=headers)

    wait_until_logged(service, "trace-me-7", by={"api", "worker"})


def wait_until_logged(service: Service, request_id: str, *, by: set[str]) -> None:
    """Wait until these programs have logged a request, which they do after the response."""

    def programs() -> set[str]:
        lines = [line for line in service.logs().splitlines() if request_id in line]
        return {json.loads(line)["program"] for line in lines}

    wait_until(lambda: programs() == by, 20, service.logs)


def test_no_secret_and_no_prompt_stands_in_any_log(service: Service, key: dict[str, Any]) -> None:
    body = {"prompt": "my very private prompt"}
    for request_id, secret in (("private-1", key["secret"]), ("private-2", key["secret"] + "x")):
        headers = {"Authorization": f"Bearer {secret}", "x-request-id": request_id}
        service.call("POST", "/api/llm/generate", json=body, headers=headers)
    wait_until_logged(service, "private-1", by={"api", "worker"})
    wait_until_logged(service, "private-2", by={"api"})

    logs = service.logs()
    assert key["secret"] not in logs
    assert "private prompt" not in logs
    assert "admin123" not in logs
