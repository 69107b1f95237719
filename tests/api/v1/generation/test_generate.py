"""Completions and chats by the official client, without streams."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion

from core.generation import ChatMessage, Generation
from core.prompts.tokenizer import PromptTokenizer
from tests.support.http.openai_client import connect, job_of, model_of, say
from tests.support.service import CALL_SECONDS, Service


def test_a_completion_uses_the_raw_prompt_in_every_prompt_mode(
    service: Service, openai: OpenAI, tokenizer: PromptTokenizer
) -> None:
    prompt = "def naïve(): return '🎉'"
    response = openai.completions.create(model=model_of(service), prompt=prompt, max_tokens=100)

    prompt_tokens = len(tokenizer.tokenizer.encode(prompt).ids)
    assert response.object == "text_completion"
    assert response.id.startswith("cmpl-")
    assert response.model == model_of(service)
    assert [c.to_dict() for c in response.choices] == [
        {"text": prompt, "index": 0, "logprobs": None, "finish_reason": "stop"}
    ]
    assert response.usage is not None
    assert response.usage.prompt_tokens == response.usage.completion_tokens == prompt_tokens
    assert response.usage.prompt_tokens_details is not None
    assert response.usage.prompt_tokens_details.cached_tokens == 0


def test_a_completion_has_sixteen_tokens_unless_it_asks_for_more(
    service: Service, openai: OpenAI
) -> None:
    response = openai.completions.create(model=model_of(service), prompt="word " * 40)

    assert response.usage is not None
    assert response.usage.completion_tokens == 16
    assert response.choices[0].finish_reason == "length"


def test_a_chat_goes_through_the_template(
    service: Service, openai: OpenAI, tokenizer: PromptTokenizer
) -> None:
    response = openai.chat.completions.create(
        model=model_of(service),
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "salut 🎉"}]},
        ],
    )

    messages = (
        ChatMessage(role="system", content="Be brief."),
        ChatMessage(role="user", content="salut 🎉"),
    )
    ids = tokenizer.encode(Generation(messages=messages))
    assert response.object == "chat.completion"
    assert response.id.startswith("chatcmpl-")
    assert response.choices[0].message.role == "assistant"
    assert response.choices[0].message.content == tokenizer.decode(ids)
    assert response.choices[0].finish_reason == "stop"
    assert response.usage is not None
    assert response.usage.prompt_tokens == len(ids)


def test_the_message_of_a_response_can_be_sent_in_the_next_request(
    service: Service, openai: OpenAI
) -> None:
    first = openai.chat.completions.create(model=model_of(service), messages=[say("one")])
    message = first.choices[0].message

    for assistant in (message, message.model_dump()):
        messages: list[Any] = [say("one"), assistant, say("two")]
        second = openai.chat.completions.create(model=model_of(service), messages=messages)
        assert "two" in (second.choices[0].message.content or "")


def test_a_chat_without_a_maximum_may_fill_the_context(service: Service, openai: OpenAI) -> None:
    response = openai.chat.completions.create(
        model=model_of(service), messages=[say("x")], extra_body={"ignore_eos": True}
    )

    assert response.usage is not None
    assert response.usage.total_tokens == 8192
    assert response.choices[0].finish_reason == "length"


def test_a_chat_without_a_maximum_fits_the_token_limit_of_its_key(
    service: Service,
) -> None:
    with connect(service, service.make_key(tokenLimit=200)) as client:
        response = client.chat.completions.create(
            model=model_of(service), messages=[say("x")], n=2, extra_body={"ignore_eos": True}
        )

    assert response.usage is not None
    assert 198 <= response.usage.total_tokens <= 200 + response.usage.prompt_tokens


def test_a_chat_without_a_maximum_fits_the_remaining_quota_of_its_key(
    service: Service,
) -> None:
    options: dict[str, Any] = {"model": model_of(service), "messages": [say("x")]}
    with connect(service, service.make_key(monthlyTokenLimit=300)) as client:
        used = [
            client.chat.completions.create(
                **options, **fields, extra_body={"ignore_eos": True}
            ).usage
            for fields in ({"max_tokens": 100}, {})
        ]

    assert sum(usage.total_tokens for usage in used if usage is not None) == 300


@pytest.mark.parametrize(
    "fields",
    [{"n": 2, "top_logprobs": 20}, {"n": 5, "top_logprobs": 5}],
)
def test_a_chat_without_a_maximum_fits_the_largest_result_with_log_probabilities(
    service: Service, openai: OpenAI, fields: dict[str, Any]
) -> None:
    response = openai.chat.completions.create(
        model=model_of(service), messages=[say("x")], logprobs=True, **fields
    )

    assert len(response.choices) == fields["n"]


def test_each_of_n_choices_is_returned(service: Service, openai: OpenAI) -> None:
    chat = openai.chat.completions.create(model=model_of(service), messages=[say("a")], n=3)
    completion = openai.completions.create(model=model_of(service), prompt="a", n=2)

    assert [choice.index for choice in chat.choices] == [0, 1, 2]
    assert [choice.text for choice in completion.choices] == ["a", "a"]


def test_stop_strings_end_the_text(service: Service, openai: OpenAI) -> None:
    for stop in ("###", ["@@", "###"]):
        response = openai.completions.create(
            model=model_of(service), prompt="one two ### three", stop=stop
        )
        assert response.choices[0].text == "one two "
        assert response.choices[0].finish_reason == "stop"


def test_the_job_has_every_option_of_the_request(service: Service, openai: OpenAI) -> None:
    response = openai.chat.completions.create(
        model=model_of(service),
        messages=[say("x")],
        max_completion_tokens=9,
        temperature=0.3,
        top_p=0.8,
        seed=-1,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        logprobs=True,
        top_logprobs=2,
        metadata={"team": "a"},
        user="u-1",
        store=False,
        extra_body={"top_k": -1, "min_p": 0.1, "repetition_penalty": 1.2, "min_tokens": 2},
    )

    assert job_of(service, response.id).request == {
        "messages": [{"role": "user", "content": "x"}],
        "maxTokens": 9,
        "temperature": 0.3,
        "topP": 0.8,
        "seed": 2**63 - 1,
        "presencePenalty": 0.5,
        "frequencyPenalty": -0.5,
        "logprobs": 2,
        "metadata": {"team": "a"},
        "topK": 0,
        "minP": 0.1,
        "repetitionPenalty": 1.2,
        "minTokens": 2,
        "model": model_of(service),
    }


def test_the_default_temperature_is_the_models_own_or_one(
    service: Service, openai: OpenAI, tokenizer: PromptTokenizer
) -> None:
    response = openai.chat.completions.create(model=model_of(service), messages=[say("x")])

    expected = tokenizer.defaults.get("temperature", 1.0)
    assert job_of(service, response.id).request["temperature"] == expected


def test_the_job_of_a_completion_is_found_by_its_id(
    service: Service, openai: OpenAI, key: dict[str, Any]
) -> None:
    response = openai.chat.completions.create(model=model_of(service), messages=[say("x")])

    path = f"/api/llm/jobs/gen_{response.id.removeprefix('chatcmpl-')}"
    job = service.call("GET", path, headers={"x-api-key": key["secret"]}).json()
    assert job["status"] == "succeeded"
    assert job["result"]["choices"][0]["text"] == response.choices[0].message.content


def test_headers_have_the_request_id_and_the_limits(service: Service, openai: OpenAI) -> None:
    raw = openai.chat.completions.with_raw_response.create(
        model=model_of(service), messages=[say("x")], extra_headers={"x-request-id": "mine-1"}
    )

    assert raw.parse()._request_id == "mine-1"
    assert raw.headers["x-ratelimit-limit-requests"] == "100000"


def test_the_helper_for_parsing_completions_works(service: Service, openai: OpenAI) -> None:
    response = openai.chat.completions.parse(model=model_of(service), messages=[say("x")])

    assert response.choices[0].message.parsed is None


def test_an_idempotency_key_gives_the_same_job(service: Service, openai: OpenAI) -> None:
    def ask() -> str:
        return openai.chat.completions.create(
            model=model_of(service),
            messages=[say("x")],
            extra_headers={"Idempotency-Key": "same-again"},
        ).id

    assert ask() == ask()


def test_many_chats_at_once_each_get_their_own_completion(
    service: Service, key: dict[str, Any]
) -> None:
    async def ask_all() -> list[ChatCompletion]:
        async with AsyncOpenAI(
            base_url=f"{service.url}/v1",
            api_key=key["secret"],
            max_retries=0,
            timeout=CALL_SECONDS,
        ) as client:
            return await asyncio.gather(
                *(
                    client.chat.completions.create(
                        model=model_of(service), messages=[say(f"number {number}.")]
                    )
                    for number in range(32)
                )
            )

    responses = asyncio.run(ask_all())

    for number, response in enumerate(responses):
        assert f"number {number}." in (response.choices[0].message.content or "")


def test_prefer_does_not_return_a_running_job(service: Service, key: dict[str, Any]) -> None:
    """OpenAI's clients would read a 202 as a completion: only `/api` supports `Prefer`."""
    response = service.call(
        "POST",
        "/v1/completions",
        data=json.dumps({"prompt": "x"}),
        headers={
            "Authorization": f"Bearer {key['secret']}",
            "Content-Type": "application/json",
            "Prefer": "respond-async",
        },
    )

    assert response.status_code == 200
    assert response.json()["choices"][0]["text"] == "x"
