"""Addresses as people spell them: slashes, wrong roots, those of other services."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient

from api.addresses import nothing_at
from api.app import register_views
from api.openapi.document import path_of
from tests.fuzz.programs import api_app
from tests.service import Service

MAX_SECONDS = 0.2


@pytest.fixture(scope="module")
def app() -> Flask:
    """The API over servers that are away: what is at an address does not need them."""
    return api_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def routes() -> list[tuple[str, str]]:
    app = Flask("api")
    register_views(app)
    return [
        (method, path_of(rule).replace("{", "").replace("}", ""))
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]


@pytest.mark.parametrize(("method", "path"), routes())
def test_slashes_at_the_end_or_twice_change_no_answer(
    client: FlaskClient, method: str, path: str
) -> None:
    plain = client.open(path, method=method, json={})

    for spelled in (f"{path}/", f"{path}//", path.replace("/", "//")):
        given = {"PATH_INFO": spelled}
        answer = client.open(path, method=method, json={}, environ_overrides=given)
        assert answer.status_code == plain.status_code
        assert _without_id(answer.get_json(silent=True)) == _without_id(plain.get_json(silent=True))


def _without_id(body: Any) -> Any:
    if isinstance(body, dict) and "error" in body:
        body["error"].pop("requestId")
    return body


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/chat/completions", "did you mean /v1/chat/completions?"),
        ("/models", "did you mean /v1/models?"),
        ("/v1/v1/chat/completions", "did you mean /v1/chat/completions?"),
        ("/api/v1/completions", "did you mean /v1/completions?"),
        ("/openai/v1/models", "did you mean /v1/models?"),
        ("/v1/chat/completion", "did you mean /v1/chat/completions?"),
        ("/api/llm/generat", "did you mean /api/llm/generate?"),
        ("/llm/generate", "did you mean /api/llm/generate?"),
        ("/generate", "did you mean /api/llm/generate?"),
        ("/v1/responses", "use POST /v1/chat/completions"),
        ("/responses", "use POST /v1/chat/completions"),
        ("/v1/messages", "does not speak Anthropic's API: use POST /v1/chat/completions"),
        ("/v1/messages/count_tokens", "does not speak Anthropic's API"),
        ("/v1/embeddings", "has no embeddings"),
        ("/v1/v1/embeddings", "has no embeddings"),
        ("/v1/fim/completions", "use POST /v1/completions with the model's own tokens"),
        ("/api/tags", "does not speak Ollama's API"),
        ("/quite/elsewhere", "see /api/docs"),
    ],
)
def test_an_address_that_leads_nowhere_names_the_near_one(
    client: FlaskClient, path: str, told: str
) -> None:
    answer = client.post(path, json={})

    assert answer.status_code == 404
    error = answer.get_json()["error"]
    assert error["code"] == "not_found"
    assert error["message"].startswith("there is nothing at this address: ")
    assert told in error["message"]


@pytest.mark.alone
def test_a_long_address_is_compared_with_none(app: Flask) -> None:
    began = time.process_time()
    for length in (100, 101, 8000):
        assert nothing_at(app.url_map, "/" + "api/" * (length // 4)).startswith("there is nothing")

    assert time.process_time() - began < MAX_SECONDS


@pytest.mark.parametrize(
    ("method", "path", "methods"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/api/llm/generate", "POST"),
        ("PATCH", "/api/keys", "GET or POST"),
    ],
)
def test_a_method_that_an_address_does_not_take_is_told_those_that_it_takes(
    client: FlaskClient, method: str, path: str, methods: str
) -> None:
    answer = client.open(path, method=method)

    assert answer.status_code == 405
    assert answer.get_json()["error"]["message"].endswith(f": use {methods}")
    assert set(methods.split(" or ")) <= answer.allow.as_set(preserve_casing=True)


@pytest.mark.parametrize("path", ["/", "/v1", "/health", "/version"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_whoever_looks_at_the_address_is_told_what_is_there(
    service: Service, method: str, path: str
) -> None:
    assert requests.request(method, service.url + path, timeout=10).status_code == 200


def test_the_same_request_by_another_spelling_is_the_same(service: Service) -> None:
    headers = {"x-api-key": service.make_key()["secret"], "Idempotency-Key": "spelled"}
    body = {"prompt": "x", "max_tokens": 2}

    answers = [
        service.call("POST", path, json=body, headers=headers)
        for path in ("/v1/completions", "/v1/completions/", "//v1//completions")
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert answers[2].history == []
