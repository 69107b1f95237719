"""Errors as the official client raises them."""

from __future__ import annotations

from typing import Any

import openai as package
import pytest
from openai import OpenAI

from tests.support.http.openai_client import ask, connect, say
from tests.support.service import Service


@pytest.mark.parametrize("secret", ["bc_000000000000_" + "A" * 43, "bc_nonsense", "sk-other"])
def test_a_wrong_key_is_an_authentication_error(service: Service, secret: str) -> None:
    with connect(service, {"secret": secret}) as client:
        with pytest.raises(package.AuthenticationError) as caught:
            ask(client, service)
        with pytest.raises(package.AuthenticationError):
            client.models.list()

    assert caught.value.type == "authentication_error"
    assert caught.value.code == "invalid_api_key"
    assert "bc_" in caught.value.message or "mistyped" in caught.value.message
    assert secret not in caught.value.message


def test_an_inactive_key_is_a_permission_error(service: Service) -> None:
    key = service.make_key()
    change = {"isActive": False}
    path = f"/api/keys/{key['id']}"
    assert service.call("PUT", path, json=change, headers=service.sign_in_admin()).ok

    with connect(service, key) as client, pytest.raises(package.PermissionDeniedError) as caught:
        ask(client, service)

    assert caught.value.code == "key_inactive"


def test_another_model_is_not_found(service: Service, openai: OpenAI) -> None:
    with pytest.raises(package.NotFoundError) as caught:
        ask(openai, service, model="gpt-4")

    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 100_000}, "max_tokens"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"messages": []}, "messages"),
        ({"extra_body": {"surprise": 1}}, "surprise"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages.0.role"),
    ],
)
def test_a_bad_request_names_its_field_and_makes_no_job(
    service: Service, openai: OpenAI, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(package.BadRequestError) as caught:
        ask(openai, service, **fields)

    error = caught.value
    assert (error.param, error.type, error.code) == (
        param,
        "invalid_request_error",
        "invalid_request",
    )
    assert error.request_id
    assert param.split(".")[-1] in error.message


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_error_for_a_result_that_is_too_large_uses_the_field_names_of_the_request(
    service: Service, openai: OpenAI, name: str
) -> None:
    fields: dict[str, Any] = {"n": 8, "logprobs": True, "top_logprobs": 20, name: 8000}

    with pytest.raises(package.BadRequestError) as caught:
        ask(openai, service, **fields)

    assert caught.value.param == "top_logprobs"
    assert f"n times {name} times (1 + top_logprobs) must be at most" in caught.value.message


def test_the_error_for_a_prompt_beyond_the_context_has_openais_words(
    service: Service, openai: OpenAI
) -> None:
    with pytest.raises(package.BadRequestError, match="maximum context length is 8192") as caught:
        ask(openai, service, messages=[say("word " * 9000)])

    assert caught.value.code == "context_length_exceeded"


def test_a_body_that_is_too_large_is_refused(service: Service, openai: OpenAI) -> None:
    with pytest.raises(package.APIStatusError) as caught:
        ask(openai, service, messages=[say("a" * 3_000_000)])

    assert caught.value.status_code == 413


def test_an_idempotency_key_of_another_request_is_not_retried(
    service: Service, openai: OpenAI
) -> None:
    headers = {"Idempotency-Key": "one-of-two"}
    ask(openai, service, extra_headers=headers)

    with pytest.raises(package.UnprocessableEntityError):
        ask(openai, service, messages=[say("other")], extra_headers=headers)


def test_a_rate_limit_error_has_the_time_of_the_next_minute(service: Service) -> None:
    key = service.make_key(rateLimit=1)
    with connect(service, key) as client, pytest.raises(package.RateLimitError) as caught:
        for _ in range(3):  # the minute may end between two requests
            ask(client, service)

    assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "rate_limit_error")
    headers = caught.value.response.headers
    assert 0 < int(headers["retry-after-ms"]) <= 60_000
    assert headers["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"n": 8, "logprobs": True, "top_logprobs": 20, "extra_body": {"min_tokens": 5000}},
            "n times min_tokens times (1 + top_logprobs) must be at most 200000",
        ),
        ({"extra_body": {"min_tokens": 8192}}, "the completion may have 8192"),
    ],
)
def test_the_error_for_an_impossible_minimum_length_names_the_bound(
    service: Service, openai: OpenAI, fields: dict[str, Any], text: str
) -> None:
    with pytest.raises(package.BadRequestError) as caught:
        ask(openai, service, **fields)

    assert text in caught.value.message


@pytest.mark.parametrize(
    ("limit", "code"),
    [("tokenLimit", "token_limit_exceeded"), ("monthlyTokenLimit", "monthly_quota_exceeded")],
)
def test_a_minimum_length_beyond_a_limit_of_the_key_is_a_rate_limit_error(
    service: Service, limit: str, code: str
) -> None:
    key = service.make_key(**{limit: 100})
    with connect(service, key) as client, pytest.raises(package.RateLimitError) as caught:
        ask(client, service, extra_body={"min_tokens": 90})

    assert caught.value.code == code
