"""The official clients with a real model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from openai import OpenAI

from core.config.settings import EngineKind, Settings
from tests.clients.node import CLIENTS, run_node
from tests.support.http.openai_client import connect, model_of, say
from tests.support.service import Service

QUESTION = "Write a Python function that adds two numbers."


@pytest.fixture(scope="module")
def model_service(
    base_settings: Settings, _redis: redis.Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service that runs the small model."""
    directory = tmp_path_factory.mktemp("model_service")
    with Service.started(base_settings, directory, engine=EngineKind.TRANSFORMERS) as service:
        yield service


@pytest.fixture(scope="module")
def key(model_service: Service) -> dict[str, Any]:
    """A key of the admin."""
    return model_service.make_key()


@pytest.fixture(scope="module")
def openai_client(model_service: Service, key: dict[str, Any]) -> Iterator[OpenAI]:
    """The client for Python, with the key."""
    with connect(model_service, key) as client:
        yield client


def test_a_greedy_stream_equals_the_synchronous_completion(
    model_service: Service, openai_client: OpenAI
) -> None:
    request: dict[str, Any] = {
        "model": model_of(model_service),
        "messages": [say(QUESTION)],
        "max_tokens": 40,
        "temperature": 0,
    }
    whole = openai_client.chat.completions.create(**request)
    chunks = list(
        openai_client.chat.completions.create(
            **request, stream=True, stream_options={"include_usage": True}
        )
    )

    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage


def test_a_raw_prompt_is_continued(model_service: Service, openai_client: OpenAI) -> None:
    completion = openai_client.completions.create(
        model=model_of(model_service), prompt="1, 2, 3, 4, 5, 6,", max_tokens=6, temperature=0
    )

    assert completion.choices[0].text.startswith(" 7, 8")


def test_a_seed_decides_the_completion(model_service: Service, openai_client: OpenAI) -> None:
    def complete(seed: int) -> str | None:
        completion = openai_client.chat.completions.create(
            model=model_of(model_service),
            messages=[say("Tell me a story.")],
            max_tokens=24,
            temperature=1.5,
            seed=seed,
        )
        return completion.choices[0].message.content

    assert complete(7) == complete(7) != complete(8)


def test_the_top_tokens_of_a_greedy_chat_begin_with_the_drawn_one(
    model_service: Service, openai_client: OpenAI
) -> None:
    request: dict[str, Any] = {
        "model": model_of(model_service),
        "messages": [say(QUESTION)],
        "max_tokens": 8,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 3,
    }
    choice = openai_client.chat.completions.create(**request).choices[0]
    chunks = list(openai_client.chat.completions.create(**request, stream=True))

    assert choice.logprobs is not None
    tokens = choice.logprobs.content or []
    assert "".join(token.token for token in tokens) == choice.message.content
    for token in tokens:
        assert token.bytes == list(token.token.encode())
        assert [top.logprob for top in token.top_logprobs] == sorted(
            (top.logprob for top in token.top_logprobs), reverse=True
        )
        assert token.top_logprobs[0].token == token.token
        assert len(token.top_logprobs) == 3
    streamed = [
        token
        for chunk in chunks
        if chunk.choices[0].logprobs is not None
        for token in chunk.choices[0].logprobs.content or []
    ]
    assert [token.token for token in streamed] == [token.token for token in tokens]


@pytest.mark.parametrize("count", [1, 5, 20])
def test_tokens_of_partial_characters_have_all_top_tokens(
    model_service: Service, openai_client: OpenAI, count: int
) -> None:
    """Several tokens of the list may have the same text: the list must not lose any of them."""
    request: dict[str, Any] = {
        "model": model_of(model_service),
        "messages": [say("Repeat exactly: 🎉🎊🎉🎊")],
        "max_tokens": 9,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": count,
    }
    choice = openai_client.chat.completions.create(**request).choices[0]
    chunks = list(openai_client.chat.completions.create(**request, stream=True))

    assert choice.logprobs is not None
    tokens = choice.logprobs.content or []
    assert any(token.token.startswith("bytes:") for token in tokens)
    for token in tokens:
        assert len(token.top_logprobs) == count
        assert token.top_logprobs[0].token == token.token
        assert token.top_logprobs[0].logprob == token.logprob
        values = [top.logprob for top in token.top_logprobs]
        assert values == sorted(values, reverse=True)
    text = b"".join(bytes(token.bytes or []) for token in tokens).decode(errors="replace")
    assert text == choice.message.content
    streamed = [c.choices[0].logprobs.content or [] for c in chunks if c.choices[0].logprobs]
    assert [token for some in streamed for token in some] == tokens


def test_the_tokens_of_one_character_have_its_offset(
    model_service: Service, openai_client: OpenAI
) -> None:
    """A character of several tokens is one position of the text: offsets must not run past it."""
    choice = openai_client.completions.create(
        model=model_of(model_service),
        prompt="🎉🎊🎉🎊🎉🎊",
        max_tokens=9,
        temperature=0,
        logprobs=20,
    ).choices[0]

    logprobs = choice.logprobs
    assert logprobs is not None
    assert (
        logprobs.text_offset
        and logprobs.tokens
        and logprobs.top_logprobs
        and logprobs.token_logprobs
    )
    assert logprobs.text_offset == sorted(logprobs.text_offset)
    assert max(logprobs.text_offset) < len(choice.text) < len(logprobs.tokens)
    for token, value, top in zip(
        logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True
    ):
        assert len(top) == 20
        assert top[token] == value == max(top.values())


def test_a_completion_has_the_offset_of_each_token(
    model_service: Service, openai_client: OpenAI
) -> None:
    choice = openai_client.completions.create(
        model=model_of(model_service),
        prompt="def add(a, b):",
        max_tokens=8,
        temperature=0,
        logprobs=2,
    ).choices[0]

    logprobs = choice.logprobs
    assert logprobs is not None
    assert (
        logprobs.tokens
        and logprobs.text_offset
        and logprobs.top_logprobs
        and logprobs.token_logprobs
    )
    for token, offset in zip(logprobs.tokens, logprobs.text_offset, strict=True):
        assert choice.text[offset:].startswith(token)
    for token, logprob, top in zip(
        logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True
    ):
        assert top[token] == logprob
        assert logprob <= 0


def test_node_streams_the_same_completion(
    model_service: Service, openai_client: OpenAI, key: dict[str, Any]
) -> None:
    output = run_node(
        CLIENTS / "openai.mjs",
        "chatStream",
        BASE_URL=f"{model_service.url}/v1",
        API_KEY=key["secret"],
        MODEL=model_of(model_service),
        PROMPT=QUESTION,
    )
    whole = openai_client.chat.completions.create(
        model=model_of(model_service), messages=[say(QUESTION)], max_tokens=24, temperature=0
    )

    chunks = [chunk for chunk in json.loads(output) if chunk["choices"]]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == whole.choices[0].message.content
