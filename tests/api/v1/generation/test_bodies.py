"""OpenAI's requests become generations, or are refused by field."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from api.v1.generation.body import GenerationBody
from api.v1.generation.chat_body import ChatBody
from api.v1.generation.completion_body import CompletionBody
from core.config.settings import PromptMode
from core.errors import InvalidRequest
from core.generation import Generation

HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def generation_of(body: GenerationBody) -> Generation:
    return body.to_generation(most_tokens=100, temperature=1.0)


def chat(**fields: Any) -> Generation:
    return generation_of(ChatBody.model_validate({**HELLO, **fields}))


def completion(**fields: Any) -> Generation:
    return generation_of(CompletionBody.model_validate({"prompt": "x", **fields}))


def faults(kind: type[GenerationBody], body: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(body)
    return {".".join(map(str, e["loc"])): e["msg"] for e in caught.value.errors()}


def test_a_completion_has_a_raw_prompt_and_sixteen_tokens_by_default() -> None:
    generation = completion(prompt="def f(")

    assert generation.prompt_mode is PromptMode.RAW
    assert (generation.prompt, generation.max_tokens, generation.temperature) == ("def f(", 16, 1.0)


def test_a_chat_may_fill_the_context_by_default() -> None:
    assert chat().max_tokens == 100


def test_max_completion_tokens_means_the_same_as_max_tokens() -> None:
    assert chat(max_completion_tokens=7).max_tokens == 7
    assert chat(max_completion_tokens=7, max_tokens=7).max_tokens == 7


def test_every_field_of_sampling_is_accepted() -> None:
    said = {
        "temperature": 0.5,
        "top_p": 0.9,
        "n": 2,
        "stop": ["a", "b"],
        "presence_penalty": -1,
        "frequency_penalty": 1,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "min_tokens": 3,
        "ignore_eos": True,
        "top_k": 5,
        "seed": 11,
        "metadata": {"a": "b"},
        "model": "m",
        "stream": True,
    }

    row = chat(**said).model_dump()

    assert {name: row[name] for name in said} == {**said, "stop": ("a", "b")}


def test_null_means_that_a_field_is_left_out() -> None:
    nothing = dict.fromkeys(set(ChatBody.model_fields) - {"messages"})

    assert chat(**nothing) == chat()


@pytest.mark.parametrize(("said", "meant"), [(-1, 0), (0, 0), (7, 7)])
def test_top_k_of_minus_one_keeps_all(said: int, meant: int) -> None:
    assert chat(top_k=said).top_k == meant


@pytest.mark.parametrize("seed", [-1, 1, 2**63, -(2**63) - 1, 10**400])
def test_any_integer_is_a_seed(seed: int) -> None:
    assert chat(seed=seed).seed == seed % 2**63


@pytest.mark.parametrize(
    ("given", "accepted"), [("", ()), (["x", ""], ("x",)), ([""], ()), ("x", ("x",)), ([], ())]
)
def test_empty_stop_strings_are_left_out(given: Any, accepted: tuple[str, ...]) -> None:
    assert chat(stop=given).stop == accepted


def test_top_p_of_0_keeps_only_the_most_likely_token() -> None:
    assert chat(top_p=0).top_p == 1e-12


@pytest.mark.parametrize("name", ["max_tokens", "n", "seed", "top_k", "min_tokens"])
def test_a_whole_number_may_be_written_with_a_point(name: str) -> None:
    assert getattr(chat(**{name: 5.0}), name) == 5
    for other in (5.5, "5", True):
        assert faults(ChatBody, {**HELLO, name: other}).keys() == {name}


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({}, None),
        ({"logprobs": False}, None),
        ({"logprobs": False, "top_logprobs": 0}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 3}, 3),
    ],
)
def test_logprobs_of_a_chat(said: dict[str, Any], meant: int | None) -> None:
    assert chat(**said).logprobs == meant


@pytest.mark.parametrize("count", [0, 3])
def test_logprobs_of_a_completion(count: int) -> None:
    assert completion(logprobs=count).logprobs == count


def test_one_prompt_in_a_list_is_one_prompt() -> None:
    assert completion(prompt=["only"]).prompt == "only"


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2], [[1, 2]], [], "", None])
def test_anything_but_one_prompt_is_refused(prompt: Any) -> None:
    assert set(faults(CompletionBody, {"prompt": prompt})) == {"prompt"}


def test_messages_of_all_roles_and_content_in_parts_are_accepted() -> None:
    generation = chat(
        messages=[
            {"role": "developer", "content": "brief"},
            {"role": "user", "content": [{"type": "text", "text": t} for t in "ab"], "name": "eve"},
            {"role": "assistant", "content": "", "refusal": None, "tool_calls": []},
            {"role": "system", "content": "now"},
        ]
    )

    assert generation.messages is not None
    assert [message.model_dump(exclude_none=True) for message in generation.messages] == [
        {"role": "system", "content": "brief"},
        {"role": "user", "content": "a\nb", "name": "eve"},
        {"role": "assistant", "content": ""},
        {"role": "system", "content": "now"},
    ]


@pytest.mark.parametrize(
    ("turn", "param"),
    [
        ({"role": "tool", "content": "x"}, "role"),
        ({"role": "function", "content": "x"}, "role"),
        ({"role": "wizard", "content": "x"}, "role"),
        ({"role": "user", "content": None}, "content"),
        ({"role": "user"}, "content"),
        ({"role": "user", "content": "NUL \x00"}, "content"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "content"),
        ({"role": "user", "content": [{"type": "text"}]}, "content"),
        ({"role": "user", "content": ["x"]}, "content"),
        ({"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}, "tool_calls"),
        ({"role": "assistant", "content": "x", "function_call": {}}, "function_call"),
        ({"role": "user", "content": "x", "mood": "good"}, "mood"),
    ],
)
def test_the_error_for_a_message_beyond_the_template_names_its_field(
    turn: dict[str, Any], param: str
) -> None:
    assert set(faults(ChatBody, {"messages": [turn]})) == {f"messages.0.{param}"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("audio", {"voice": "alloy"}),
        ("function_call", {"name": "f"}),
        ("functions", [{"name": "f"}]),
        ("logit_bias", {"50256": -100}),
        ("modalities", ["text", "audio"]),
        ("moderation", {"model": "m"}),
        ("prediction", {"type": "content", "content": "x"}),
        ("reasoning_effort", "high"),
        ("response_format", {"type": "json_object"}),
        ("service_tier", "flex"),
        ("tool_choice", "required"),
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("verbosity", "low"),
        ("web_search_options", {}),
        ("surprise", 1),
        ("maxTokens", 5),
        ("n", 9),
        ("temperature", 2.5),
        ("stop", ["a"] * 9),
        ("top_logprobs", 2),
        ("stream_options", {"include_usage": True}),
        ("top_k", -2),
    ],
)
def test_an_unsupported_field_of_a_chat_is_refused_by_its_name(field: str, value: Any) -> None:
    found = faults(ChatBody, {**HELLO, field: value})

    assert {param.split(".")[0] for param in found} == {field}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("best_of", 2),
        ("echo", True),
        ("echo", 0),
        ("suffix", "}"),
        ("logit_bias", {"1": 1}),
        ("max_completion_tokens", 5),
        ("messages", []),
        ("logprobs", 21),
    ],
)
def test_an_unsupported_field_of_a_completion_is_refused_by_its_name(
    field: str, value: Any
) -> None:
    assert set(faults(CompletionBody, {"prompt": "x", field: value})) == {field}


@pytest.mark.parametrize(
    "harmless",
    [
        {"user": "u-1", "store": True, "safety_identifier": "s", "prompt_cache_key": "k"},
        {"service_tier": "auto", "prompt_cache_retention": "24h", "verbosity": "medium"},
        {"tools": [], "tool_choice": "none", "parallel_tool_calls": True, "functions": []},
        {"response_format": {"type": "text"}, "modalities": ["text"], "logit_bias": {}},
        {"reasoning_effort": "none"},
    ],
)
def test_fields_that_change_no_completion_are_accepted(harmless: dict[str, Any]) -> None:
    assert chat(**harmless) == chat()


def test_empty_values_of_unsupported_fields_of_a_completion_are_accepted() -> None:
    taken = completion(best_of=2, n=2, echo=False, suffix="", user="u-1")

    assert taken == completion(n=2)


def test_a_chat_without_messages_is_refused() -> None:
    assert set(faults(ChatBody, {"messages": []})) == {"messages"}


def test_two_maxima_must_agree() -> None:
    body = {**HELLO, "max_tokens": 5, "max_completion_tokens": 6}

    assert set(faults(ChatBody, body)) == {"max_completion_tokens"}


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_error_for_too_many_tokens_names_the_field_of_the_request(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{name} must be at most 100") as caught:
        chat(**{name: 101})
    assert caught.value.param == name


def test_min_tokens_beyond_the_default_maximum_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="min_tokens must be at most 16"):
        completion(min_tokens=17)
