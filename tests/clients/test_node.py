"""The official client for Node.js, at the echo engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from core.settings import Settings
from tests.api.v1.client import job_of, model_of
from tests.clients.node import CLIENTS, run_node
from tests.service import Service, wait_until


@pytest.fixture(scope="module")
def paced(
    base_settings: Settings, _redis: redis.Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("paced")
    with Service.started(base_settings, directory, echo_tokens_per_second=50.0) as running:
        yield running


def ask(service: Service, scenario: str, **key_fields: Any) -> Any:
    said = run_node(
        CLIENTS / "openai.mjs",
        scenario,
        BASE_URL=f"{service.url}/v1",
        API_KEY=service.make_key(**key_fields)["secret"],
        MODEL=model_of(service),
    )
    return json.loads(said)


def test_a_batch_is_made_followed_and_fetched(paced: Service) -> None:
    said = ask(paced, "batch")

    assert said["file"]["expires_at"] == said["file"]["created_at"] + 3600
    assert said["batch"]["status"] == "completed"
    assert said["batch"]["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
    line = json.loads(said["output"])
    assert line["custom_id"] == "mine"
    assert line["response"]["body"]["choices"][0]["message"]["content"]
    assert said["listed"] == [said["batch"]["id"]]
    assert said["deleted"]["deleted"]


def test_a_chat_is_answered(paced: Service) -> None:
    answer = ask(paced, "chat")

    assert answer["object"] == "chat.completion"
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["length"] * 2
    assert answer["usage"]["completion_tokens"] == 48


def test_a_chat_is_streamed(paced: Service) -> None:
    chunks = ask(paced, "chatStream")

    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 24
    told = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-1])
    choices = job_of(paced, chunks[0]["id"]).choices
    assert choices is not None
    assert told == choices[0]["text"]


def test_the_helper_for_streams_puts_the_answer_together(paced: Service) -> None:
    answer = ask(paced, "helper")

    choices = job_of(paced, answer["id"]).choices
    assert choices is not None
    assert answer["choices"][0]["message"]["content"] == choices[0]["text"]


def test_a_prompt_is_completed(paced: Service) -> None:
    assert ask(paced, "completion")["choices"][0]["text"] == "a b "
    chunks = ask(paced, "completionStream")
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "a b c"


def test_the_model_is_listed(paced: Service) -> None:
    models = ask(paced, "models")

    assert [model["id"] for model in models["list"]] == [model_of(paced)]
    assert models["one"] == models["list"][0]


def test_errors_have_the_clients_own_classes(paced: Service) -> None:
    told = ask(paced, "errors")

    assert {name: (error["name"], error["status"]) for name, error in told.items()} == {
        "stranger": ("AuthenticationError", 401),
        "model": ("NotFoundError", 404),
        "field": ("BadRequestError", 400),
        "tools": ("BadRequestError", 400),
    }
    assert (told["tools"]["param"], told["tools"]["code"]) == ("tools", "invalid_request")


def test_the_client_comes_back_when_a_429_says_so(paced: Service) -> None:
    assert ask(paced, "retries", maxInFlight=1) == ["length", "length"]


def test_a_client_that_aborts_its_stream_cancels_its_job(paced: Service) -> None:
    answer_id = ask(paced, "abort")["id"]

    wait_until(lambda: job_of(paced, answer_id).state == "cancelled", 20)
