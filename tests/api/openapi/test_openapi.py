"""The published document is valid and describes every route, with the models that validate."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from flask import Flask
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel, ValidationError

from api.app import create_app, published_document, register_views
from api.openapi.document import Call, build_document, calls_of, path_of
from api.openapi.operation import HtmlPage, description_of
from api.openapi.schemas import read_docstring
from api.services import Services
from cli.main import main
from core.config.settings import Settings
from core.generation import Generation
from tests.support.contract import Contract, contract
from tests.support.http.accounts import register
from tests.support.http.sse import events
from tests.support.service import Service

FLAWED: dict[str, Any] = {"integer": ["1", True, 1.5], "number": ["1", True], "boolean": ["1", 1]}


@pytest.fixture(scope="module")
def app() -> Flask:
    app = Flask("test", static_folder=None)
    register_views(app)
    return app


@pytest.fixture(scope="module")
def document(app: Flask) -> dict[str, Any]:
    return build_document(app)


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert [str(fault) for fault in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_every_route_is_described_or_serves_a_page(app: Flask) -> None:
    silent = [
        endpoint for endpoint, view in app.view_functions.items() if description_of(view) is None
    ]

    assert silent == [], "put @described above these views"


def test_the_document_has_the_methods_of_every_route_and_no_others(
    app: Flask, document: dict[str, Any]
) -> None:
    there = {
        (path_of(rule), method.lower())
        for rule in app.url_map.iter_rules()
        if not isinstance(description_of(app.view_functions[rule.endpoint]), HtmlPage)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    published = {(path, method) for path, item in document["paths"].items() for method in item}

    assert published == there


def test_only_the_docs_are_pages(app: Flask) -> None:
    pages = [
        rule.rule
        for rule in app.url_map.iter_rules()
        if isinstance(description_of(app.view_functions[rule.endpoint]), HtmlPage)
    ]

    assert sorted(pages) == ["/api/docs", "/api/docs/<name>"]


def bodies() -> list[Any]:
    app = Flask("test", static_folder=None)
    register_views(app)
    return [
        pytest.param(call, id=f"{call.method} {call.path}")
        for call in calls_of(app)
        if call.operation.body is not None
    ]


@pytest.mark.parametrize("call", bodies())
def test_a_body_is_published_as_the_model_that_validates_it(
    document: dict[str, Any], call: Call
) -> None:
    content = document["paths"][call.path][call.method]["requestBody"]["content"]
    name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    body = call.operation.body
    assert body is not None and issubclass(body, BaseModel)

    published = document["components"]["schemas"][name]

    own = body.model_json_schema(by_alias=True)
    assert set(published["properties"]) == set(own["properties"])
    assert published.get("required", []) == own.get("required", [])
    assert published["additionalProperties"] is False


@pytest.mark.parametrize("call", bodies())
def test_a_number_or_boolean_of_another_type_is_refused(
    document: dict[str, Any], call: Call
) -> None:
    body = call.operation.body
    assert body is not None
    schema = body.model_json_schema(by_alias=True)
    for name, field in schema["properties"].items():
        for kind in [field, *field.get("anyOf", [])]:
            for value in FLAWED.get(kind.get("type", ""), []):
                with pytest.raises(ValidationError) as caught:
                    body.model_validate_json(json.dumps({name: value}))
                named = {error["loc"][0] for error in caught.value.errors() if error["loc"]}
                assert name in named


def test_the_served_document_is_the_one_that_the_command_prints(
    base_settings: Settings, redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    api = create_app(Services.from_settings(base_settings)).test_client()

    served = api.get("/api/openapi.json")

    assert main(["openapi"]) == 0
    assert json.loads(capsys.readouterr().out) == served.get_json() == published_document()


def test_a_browser_revalidates_its_cached_document(
    base_settings: Settings, redis_client: redis.Redis
) -> None:
    api = create_app(Services.from_settings(base_settings)).test_client()
    first = api.get("/api/openapi.json")

    revalidated = api.get("/api/openapi.json", headers={"If-None-Match": first.headers["etag"]})

    assert first.headers["cache-control"] == "no-cache"
    assert (revalidated.status_code, revalidated.data) == (304, b"")


def test_a_docstring_gives_the_description_of_a_model_and_of_its_fields() -> None:
    text, fields = read_docstring(
        """A thing.

        More, `None` is nothing.

        Attributes:
            one: the first
                of two: not a name.
            two: the second.
        """
    )

    assert text == "A thing.\n\nMore, `null` is nothing."
    assert fields == {"one": "the first of two: not a name.", "two": "the second."}


def test_a_difference_from_the_schema_is_found() -> None:
    schema = contract().document["components"]["schemas"]["ShownUser"]
    partial = {"id": "user_" + "0" * 32, "email": "", "name": "", "role": "admin", "isActive": True}
    whole = {**partial, "createdAt": "2026-11-01T12:00:00.000Z"}

    faults = [
        list(contract().json_faults({"$ref": "#/components/schemas/ShownUser"}, value))
        for value in (whole, partial, {**whole, "more": 1}, {**whole, "createdAt": "yesterday"})
    ]

    assert set(schema["required"]) == set(whole)
    assert [len(found) for found in faults] == [0, 1, 1, 1]


def test_an_undescribed_response_is_found(service: Service) -> None:
    response = service.call("GET", "/healthz")
    contract = Contract.published()
    described = contract.document["paths"]["/healthz"]["get"]["responses"]

    described["200"]["headers"]["x-more"] = {"required": True}
    assert contract.faults(response) == ["the header x-more is missing"]
    del described["200"]
    assert contract.faults(response) == ["200 is not described"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/llm/generate", {"prompt": "a b c", "logprobs": 2, "n": 2, "maxTokens": 9}),
        ("/v1/completions", {"prompt": "a b c", "logprobs": 2, "n": 2, "max_tokens": 9}),
        (
            "/v1/chat/completions",
            {
                "messages": [{"role": "user", "content": "a b c"}],
                "logprobs": True,
                "top_logprobs": 2,
                "max_tokens": 9,
            },
        ),
    ],
)
def test_the_events_of_a_stream_are_as_described(
    service: Service, path: str, body: dict[str, Any]
) -> None:
    secret = register(service).make_key()["secret"]
    options = {} if path.startswith("/api") else {"stream_options": {"include_usage": True}}

    response = service.call(
        "POST",
        path,
        json={**body, "stream": True, **options},
        headers={"Authorization": f"Bearer {secret}"},
        stream=True,
    )
    *sent, done = events(response)

    assert done.data == "[DONE]"
    assert [contract().event_faults(path, "post", event.json) for event in sent] == [[]] * len(sent)
    assert sent[-1].json["usage"]["completion_tokens"] > 0


def test_the_body_of_a_partial_update_publishes_no_defaults(document: dict[str, Any]) -> None:
    for name in ("UpdateKeyBody", "UpdateUserBody"):
        fields = document["components"]["schemas"][name]["properties"].values()
        assert [field for field in fields if "default" in field] == []


@pytest.mark.parametrize(
    ("body", "is_valid"),
    [
        ({"prompt": "x"}, True),
        ({"prompt": "x", "messages": None}, True),
        ({"messages": [{"role": "user", "content": "x"}]}, True),
        ({"messages": [{"role": "user", "content": "x"}], "prompt": None}, True),
        ({"prompt": "x", "stop": "END"}, True),
        ({"prompt": "x", "stop": None}, True),
        ({}, False),
        ({"prompt": None}, False),
        ({"prompt": "x", "messages": [{"role": "user", "content": "x"}]}, False),
        ({"prompt": "x", "stop": 1}, False),
    ],
)
def test_the_published_generation_accepts_what_the_model_accepts(
    body: dict[str, Any], is_valid: bool
) -> None:
    faults = list(contract().json_faults({"$ref": "#/components/schemas/Generation"}, body))

    assert (faults == []) is is_valid
    if is_valid:
        Generation.model_validate_json(json.dumps(body))
    else:
        with pytest.raises(ValidationError):
            Generation.model_validate_json(json.dumps(body))
