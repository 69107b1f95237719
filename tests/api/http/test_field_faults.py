"""Errors about wrong fields use our own words, never the library's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from pydantic import BaseModel

from api.app import register_views
from api.batches.generation_line import GenerationLine
from api.batches.options import BatchOptions
from api.http.field_faults import KNOWN_TYPES
from api.http.json_input import read_json
from api.openapi.document import calls_of
from api.v1.batches.file_form import FileOptions
from api.v1.batches.line import ChatLine, CompletionLine
from api.v1.generation.chat_body import ChatBody
from api.views.keys import CreateKeyBody
from core.errors import InvalidRequest
from core.generation import MOST_TOKENS, Generation

#: The errors that each kind of schema can raise, besides those of its bounds.
ERRORS = {
    "any": set(),
    "bool": {"bool_type"},
    "datetime": {
        "datetime_type",
        "datetime_parsing",
        "datetime_from_date_parsing",
        "datetime_object_invalid",
    },
    "default": set(),
    "dict": {"dict_type"},
    "enum": {"enum"},
    "float": {"float_type", "finite_number"},
    "function-after": {"value_error"},
    "function-before": {"value_error"},
    "int": {"int_type"},
    "literal": {"literal_error"},
    "model": {"model_type"},
    "model-field": set(),
    "model-fields": {"missing", "extra_forbidden"},
    "nullable": set(),
    "str": {"string_type", "string_unicode"},
    "tuple": {"tuple_type"},
    # Our own validators parse the text before the library does, and raise our own errors.
    "timedelta": set(),
}
BOUNDS = {
    ("str", "max_length"): "string_too_long",
    ("str", "min_length"): "string_too_short",
    ("str", "pattern"): "string_pattern_mismatch",
    "max_length": "too_long",
    "min_length": "too_short",
    "ge": "greater_than_equal",
    "gt": "greater_than",
    "le": "less_than_equal",
    "lt": "less_than",
    "tz_constraint": "timezone_aware",
}
#: They forbid NUL characters, and the message says so.
PATTERNS = {r"^[^\x00]+$", r"^[^\x00]*$"}
#: Keys of a schema whose values are no schemas.
NO_SCHEMAS = {
    "metadata",
    "function",
    "cls",
    "default",
    "members",
    "expected",
    "json_schema_input_schema",
}


def models() -> Iterator[type[BaseModel]]:
    """Yield every model that validates input of a caller."""
    app = Flask("api")
    register_views(app)
    yield from (Generation, GenerationLine, ChatLine, CompletionLine, BatchOptions, FileOptions)
    for call in calls_of(app):
        if call.operation.body is not None:
            yield call.operation.body


def schemas_in(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, list):
        for part in schema:
            yield from schemas_in(part)
    elif isinstance(schema, dict):
        is_schema = isinstance(schema.get("type"), str)
        if is_schema:
            yield schema
        for name, part in schema.items():
            if not (is_schema and name in NO_SCHEMAS):
                yield from schemas_in(part)


def errors_of(schema: dict[str, Any]) -> Iterator[str]:
    kind = schema["type"]
    assert kind in ERRORS, (
        f"add the errors of a {kind} here, and their messages in api/http/field_faults.py"
    )
    yield from ERRORS[kind]
    for bound in schema:
        if (kind, bound) in BOUNDS or bound in BOUNDS:
            yield BOUNDS.get((kind, bound)) or BOUNDS[bound]


def test_every_error_that_a_model_can_raise_has_a_message_of_ours() -> None:
    raised = {
        error
        for model in models()
        for schema in schemas_in(model.__pydantic_core_schema__)
        for error in errors_of(schema)
    }

    assert len(raised) > 15
    assert raised <= KNOWN_TYPES


def test_every_pattern_is_one_that_the_message_explains() -> None:
    patterns = {
        schema["pattern"]
        for model in models()
        for schema in schemas_in(model.__pydantic_core_schema__)
        if schema["type"] == "str" and "pattern" in schema
    }

    assert patterns == PATTERNS


def messages_of(kind: type[BaseModel], body: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        read_json(kind, json.dumps(body).encode(), of="the body", context={MOST_TOKENS: 100})
    return {fault.param: fault.message for fault in caught.value.fields}


CHAT = {"messages": [{"role": "user", "content": "x"}]}


@pytest.mark.parametrize(
    ("kind", "body", "faults"),
    [
        (Generation, {"prompt": "x", "stop": ["a"] * 9}, {"stop": "must have at most 8 entries"}),
        (
            Generation,
            {"prompt": "x", "metadata": {str(n): "" for n in range(17)}},
            {"metadata": "must have at most 16 entries"},
        ),
        (Generation, {"prompt": "x", "metadata": {"a": 1}}, {"metadata.a": "must be a string"}),
        (Generation, {"prompt": "x", "n": 1.5}, {"n": "must be a whole number"}),
        (Generation, {"prompt": "x", "n": "1"}, {"n": "must be a whole number"}),
        (Generation, {"prompt": "x", "stream": 1}, {"stream": "must be true or false"}),
        (Generation, {"prompt": "x", "topP": "1"}, {"topP": "must be a number"}),
        (Generation, {"prompt": "x", "topP": float("inf")}, {"topP": "must be a finite number"}),
        (Generation, {"prompt": "x", "temperature": 2.5}, {"temperature": "must be at most 2"}),
        (Generation, {"prompt": "x", "promptMode": "x"}, {"promptMode": "must be one of chat or"}),
        (Generation, {"prompt": "x\0"}, {"prompt": "must not contain NUL characters"}),
        (Generation, {"prompt": "x", "stop": 1}, {"stop": "must be a list"}),
        (CreateKeyBody, {"name": "x", "expiresAt": 1}, {"expiresAt": "must be a string with a"}),
        (
            CreateKeyBody,
            {"name": "x", "expiresAt": "soon"},
            {"expiresAt": "must be a time such as"},
        ),
        (
            CreateKeyBody,
            {"name": "x", "expiresAt": "2099-01-01T00:00:00"},
            {"expiresAt": "must name its time zone"},
        ),
        (Generation, {"messages": []}, {"messages": "must not be empty"}),
        (Generation, {"messages": [{"role": "User", "content": ""}]}, {"messages.0.role": "must"}),
        (ChatBody, {"messages": [{"role": "user", "content": None}]}, {"messages.0.content": "mu"}),
        (ChatBody, {"messages": [{"role": "User", "content": ""}]}, {"messages.0.role": "must be"}),
        (ChatBody, {**CHAT, "logit_bias": {"1": 1}}, {"logit_bias": "is not supported by this"}),
    ],
)
def test_messages_of_faults_are_plain_and_have_the_full_path(
    kind: type[BaseModel], body: dict[str, Any], faults: dict[str, str]
) -> None:
    found = messages_of(kind, body)

    assert found.keys() == faults.keys()
    for param, words in faults.items():
        assert found[param].startswith(f"{param} {words}")


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        (ChatBody, {**CHAT, "maxTokens": 1}, "maxTokens is not a known field: did you mean max_t"),
        (Generation, {"prompt": "x", "temprature": 1}, "temprature is not a known field: did you"),
        (Generation, {"prompt": "x", "surprise": 1}, "surprise is not a known field"),
        (
            Generation,
            {"prompt": "x", "maxTokens": 1, "max_tokens": 1},
            "max_tokens and maxTokens are the same field: send one of them",
        ),
        (
            ChatLine,
            {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}
            | {"body": {**CHAT, "maxTokens": 1}},
            "body.maxTokens is not a known field: did you mean max_tokens?",
        ),
    ],
)
def test_the_error_for_an_unknown_field_suggests_a_similar_one(
    kind: type[BaseModel], body: dict[str, Any], message: str
) -> None:
    (found,) = messages_of(kind, body).values()

    assert found.startswith(message)


def test_all_faults_are_reported_together() -> None:
    chat = {**CHAT, "tools": [{}], "max_tokens": 101, "n": 0, "surprise": 1}
    own = {"maxTokens": 101, "temperature": 3, "minTokens": -1}

    assert messages_of(ChatBody, chat).keys() == {"tools", "max_tokens", "n", "surprise"}
    assert messages_of(Generation, own).keys() == {
        "messages",
        "maxTokens",
        "temperature",
        "minTokens",
    }
