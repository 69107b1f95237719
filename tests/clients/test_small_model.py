"""The official clients at a real model."""

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
def real(
    base_settings: Settings, _redis: redis.Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("real")
    with Service.started(base_settings, directory, engine=EngineKind.TRANSFORMERS) as service:
        yield service


@pytest.fixture(scope="module")
def key(real: Service) -> dict[str, Any]:
    return real.make_key()


@pytest.fixture(scope="module")
def openai(real: Service, key: dict[str, Any]) -> Iterator[OpenAI]:
    with connect(real, key) as client:
        yield client


def test_the_deltas_of_a_greedy_chat_are_the_synchronous_answer(
    real: Service, openai: OpenAI
) -> None:
    asked: dict[str, Any] = {
        "model": model_of(real),
        "messages": [say(QUESTION)],
        "max_tokens": 40,
        "temperature": 0,
    }
    whole = openai.chat.completions.create(**asked)
    chunks = list(
        openai.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )

    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage


def test_a_raw_prompt_is_gone_on_with(real: Service, openai: OpenAI) -> None:
    answer = openai.completions.create(
        model=model_of(real), prompt="1, 2, 3, 4, 5, 6,", max_tokens=6, temperature=0
    )

    assert answer.choices[0].text.startswith(" 7, 8")


def test_a_seed_gives_the_same_answer_and_another_seed_another(
    real: Service, openai: OpenAI
) -> None:
    def ask(seed: int) -> str | None:
        answer = openai.chat.completions.create(
            model=model_of(real),
            messages=[say("Tell me a story.")],
            max_tokens=24,
            temperature=1.5,
            seed=seed,
        )
        return answer.choices[0].message.content

    assert ask(7) == ask(7) != ask(8)


def test_a_chat_tells_the_best_tokens_with_the_drawn_one_first_if_greedy(
    real: Service, openai: OpenAI
) -> None:
    asked: dict[str, Any] = {
        "model": model_of(real),
        "messages": [say(QUESTION)],
        "max_tokens": 8,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 3,
    }
    choice = openai.chat.completions.create(**asked).choices[0]
    chunks = list(openai.chat.completions.create(**asked, stream=True))

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
def test_tokens_that_are_parts_of_characters_have_all_they_were_asked_for(
    real: Service, openai: OpenAI, count: int
) -> None:
    asked: dict[str, Any] = {
        "model": model_of(real),
        "messages": [say("Repeat exactly: 🎉🎊🎉🎊")],
        "max_tokens": 9,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": count,
    }
    choice = openai.chat.completions.create(**asked).choices[0]
    chunks = list(openai.chat.completions.create(**asked, stream=True))

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


def test_tokens_of_one_character_begin_where_it_does(real: Service, openai: OpenAI) -> None:
    choice = openai.completions.create(
        model=model_of(real), prompt="🎉🎊🎉🎊🎉🎊", max_tokens=9, temperature=0, logprobs=20
    ).choices[0]

    said = choice.logprobs
    assert said is not None
    assert said.text_offset and said.tokens and said.top_logprobs and said.token_logprobs
    assert said.text_offset == sorted(said.text_offset)
    assert max(said.text_offset) < len(choice.text) < len(said.tokens)
    for token, value, top in zip(said.tokens, said.token_logprobs, said.top_logprobs, strict=True):
        assert len(top) == 20
        assert top[token] == value == max(top.values())


def test_a_completion_tells_where_each_token_stands(real: Service, openai: OpenAI) -> None:
    choice = openai.completions.create(
        model=model_of(real),
        prompt="def add(a, b):",
        max_tokens=8,
        temperature=0,
        logprobs=2,
    ).choices[0]

    said = choice.logprobs
    assert said is not None
    assert said.tokens and said.text_offset and said.top_logprobs and said.token_logprobs
    for token, offset in zip(said.tokens, said.text_offset, strict=True):
        assert choice.text[offset:].startswith(token)
    for token, logprob, top in zip(
        said.tokens, said.token_logprobs, said.top_logprobs, strict=True
    ):
        assert top[token] == logprob
        assert logprob <= 0


def test_node_gets_the_same_answer_streamed(
    real: Service, openai: OpenAI, key: dict[str, Any]
) -> None:
    said = run_node(
        CLIENTS / "openai.mjs",
        "chatStream",
        BASE_URL=f"{real.url}/v1",
        API_KEY=key["secret"],
        MODEL=model_of(real),
        PROMPT=QUESTION,
    )
    whole = openai.chat.completions.create(
        model=model_of(real), messages=[say(QUESTION)], max_tokens=24, temperature=0
    )

    chunks = [chunk for chunk in json.loads(said) if chunk["choices"]]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == whole.choices[0].message.content
