"""The official client for Node.js, with the echo engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from core.config.settings import Settings
from tests.clients.node import CLIENTS, run_node
from tests.support.http.openai_client import job_of, model_of
from tests.support.polling import wait_until
from tests.support.service import Service


@pytest.fixture(scope="module")
def slow_service(
    base_settings: Settings, _redis: redis.Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service of 50 tokens a second for each stream."""
    directory = tmp_path_factory.mktemp("slow")
    with Service.started(base_settings, directory, echo_tokens_per_second=50.0) as running:
        yield running


def run_scenario(service: Service, scenario: str, **key_fields: Any) -> Any:
    """Run a scenario of openai.mjs with a new key, and return its result.

    Args:
        key_fields: fields of the key beside its name, as the API takes them.
    """
    output = run_node(
        CLIENTS / "openai.mjs",
        scenario,
        BASE_URL=f"{service.url}/v1",
        API_KEY=service.make_key(**key_fields)["secret"],
        MODEL=model_of(service),
    )
    return json.loads(output)


def test_a_batch_is_created_polled_and_downloaded(slow_service: Service) -> None:
    result = run_scenario(slow_service, "batch")

    assert result["file"]["expires_at"] == result["file"]["created_at"] + 3600
    assert result["batch"]["status"] == "completed"
    assert result["batch"]["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
    line = json.loads(result["output"])
    assert line["custom_id"] == "mine"
    assert line["response"]["body"]["choices"][0]["message"]["content"]
    assert result["listed"] == [result["batch"]["id"]]
    assert result["deleted"]["deleted"]


def test_a_chat_has_a_completion(slow_service: Service) -> None:
    completion = run_scenario(slow_service, "chat")

    assert completion["object"] == "chat.completion"
    assert [choice["finish_reason"] for choice in completion["choices"]] == ["length"] * 2
    assert completion["usage"]["completion_tokens"] == 48


def test_a_chat_is_streamed(slow_service: Service) -> None:
    chunks = run_scenario(slow_service, "chatStream")

    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 24
    result = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-1])
    choices = job_of(slow_service, chunks[0]["id"]).choices
    assert choices is not None
    assert result == choices[0]["text"]


def test_the_stream_helper_assembles_the_completion(slow_service: Service) -> None:
    completion = run_scenario(slow_service, "streamHelper")

    choices = job_of(slow_service, completion["id"]).choices
    assert choices is not None
    assert completion["choices"][0]["message"]["content"] == choices[0]["text"]


def test_a_prompt_is_completed(slow_service: Service) -> None:
    assert run_scenario(slow_service, "completion")["choices"][0]["text"] == "a b "
    chunks = run_scenario(slow_service, "completionStream")
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "a b c"


def test_the_model_is_listed(slow_service: Service) -> None:
    models = run_scenario(slow_service, "models")

    assert [model["id"] for model in models["list"]] == [model_of(slow_service)]
    assert models["one"] == models["list"][0]


def test_errors_have_the_clients_own_classes(slow_service: Service) -> None:
    result = run_scenario(slow_service, "errors")

    assert {name: (error["name"], error["status"]) for name, error in result.items()} == {
        "key": ("AuthenticationError", 401),
        "model": ("NotFoundError", 404),
        "field": ("BadRequestError", 400),
        "tools": ("BadRequestError", 400),
    }
    assert (result["tools"]["param"], result["tools"]["code"]) == ("tools", "invalid_request")


def test_the_client_retries_after_a_429(slow_service: Service) -> None:
    assert run_scenario(slow_service, "retries", maxInFlight=1) == ["length", "length"]


def test_a_client_that_aborts_its_stream_cancels_its_job(slow_service: Service) -> None:
    job_id = run_scenario(slow_service, "abort")["id"]

    wait_until(lambda: job_of(slow_service, job_id).state == "cancelled", 20)
