"""Misspelled paths: further slashes, wrong roots, and paths of other services."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient

from api.app import register_views
from api.openapi.document import path_of
from api.unknown_paths import not_found_message
from tests.fuzz.programs import api_app
from tests.support.http.errors import error_of
from tests.support.service import Service

MAX_SECONDS = 0.2


@pytest.fixture(scope="module")
def app() -> Flask:
    """The API without PostgreSQL and Redis, which routing does not need."""
    return api_app()


@pytest.fixture
def flask_client(app: Flask) -> FlaskClient:
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
def test_repeated_or_final_slashes_change_no_response(
    flask_client: FlaskClient, method: str, path: str
) -> None:
    plain = flask_client.open(path, method=method, json={})

    for spelled in (f"{path}/", f"{path}//", path.replace("/", "//")):
        given = {"PATH_INFO": spelled}
        response = flask_client.open(path, method=method, json={}, environ_overrides=given)
        assert response.status_code == plain.status_code
        assert _without_id(response.get_json(silent=True)) == _without_id(
            plain.get_json(silent=True)
        )


def _without_id(body: Any) -> Any:
    if isinstance(body, dict) and "error" in body:
        body["error"].pop("requestId")
    return body


@pytest.mark.parametrize(
    ("path", "expected"),
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
def test_the_error_for_an_unknown_path_suggests_a_similar_one(
    flask_client: FlaskClient, path: str, expected: str
) -> None:
    response = flask_client.post(path, json={})

    assert response.status_code == 404
    error = response.get_json()["error"]
    assert error["code"] == "not_found"
    assert error["message"].startswith("there is nothing at this address: ")
    assert expected in error["message"]


@pytest.mark.alone
def test_a_long_path_is_compared_with_no_other(app: Flask) -> None:
    began = time.process_time()
    for length in (100, 101, 8000):
        assert not_found_message(app.url_map, "/" + "api/" * (length // 4)).startswith(
            "there is nothing"
        )

    assert time.process_time() - began < MAX_SECONDS


@pytest.mark.parametrize(
    ("method", "path", "methods"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/api/llm/generate", "POST"),
        ("PATCH", "/api/keys", "GET or POST"),
    ],
)
def test_the_error_for_a_method_names_the_supported_ones(
    flask_client: FlaskClient, method: str, path: str, methods: str
) -> None:
    response = flask_client.open(path, method=method)

    assert response.status_code == 405
    assert response.get_json()["error"]["message"].endswith(f": use {methods}")
    assert set(methods.split(" or ")) <= response.allow.as_set(preserve_casing=True)


@pytest.mark.parametrize("path", ["/", "/v1", "/health", "/version"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_root_names_the_documentation(service: Service, method: str, path: str) -> None:
    assert requests.request(method, service.url + path, timeout=10).status_code == 200


def test_another_spelling_of_a_path_is_the_same_request(service: Service) -> None:
    headers = {"x-api-key": service.make_key()["secret"], "Idempotency-Key": "spelled"}
    body = {"prompt": "x", "max_tokens": 2}

    responses = [
        service.call("POST", path, json=body, headers=headers)
        for path in ("/v1/completions", "/v1/completions/", "//v1//completions")
    ]

    assert [response.status_code for response in responses] == [200, 200, 200]
    assert len({response.json()["id"] for response in responses}) == 1
    assert responses[2].history == []


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("DELETE", "/api/llm/generate", 405, "method_not_allowed"),
    ],
)
def test_unknown_paths_and_methods_have_the_same_error_shape(
    service: Service, method: str, path: str, status: int, code: str
) -> None:
    response = service.call(method, path)

    assert (response.status_code, error_of(response)) == (status, code)
