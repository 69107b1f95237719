"""The context limit of the ready workers applies to all requests before they are charged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from core.config.settings import Settings
from tests.support.polling import wait_until
from tests.support.service import Service

#: Tokens of context that the worker has; the model has 8,192.
CONTEXT = 2048
WORDS = "This model's maximum context length is 2048 tokens, but the prompt has".casefold()


@pytest.fixture(scope="module")
def small_context_service(
    base_settings: Settings, model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service whose worker has a smaller context than the model."""
    model = tmp_path_factory.mktemp("model")
    for file in model_dir.iterdir():
        (model / file.name).symlink_to(file)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").unlink()
    (model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": CONTEXT}))
    directory = tmp_path_factory.mktemp("smaller")
    with Service.started(base_settings, directory, workers=0) as service:
        service.add_worker(model_path=str(model))
        service.wait_ready()
        yield service


@pytest.fixture(scope="module")
def headers(small_context_service: Service) -> dict[str, str]:
    return {"x-api-key": small_context_service.make_key()["secret"]}


def post(service: Service, path: str, headers: dict[str, str], **body: Any) -> requests.Response:
    return service.call("POST", path, json=body, headers=headers)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/completions", "/api/llm/generate"])
def test_a_request_beyond_the_context_of_all_workers_is_refused_before_it_is_charged(
    small_context_service: Service, headers: dict[str, str], path: str, stream: bool
) -> None:
    length = {"max_tokens": 10} if path.startswith("/v1") else {"maxTokens": 10}

    response = post(
        small_context_service, path, headers, prompt="w " * 2500, stream=stream, **length
    )

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "context_length_exceeded")
    assert error["param"] == "prompt"
    assert error["message"].casefold().startswith(WORDS)
    limits = small_context_service.call("GET", "/api/limits", headers=headers).json()
    assert limits["monthlyTokenLimit"]["used"] == limits["maxInFlight"]["used"] == 0


def test_a_batch_line_without_a_maximum_succeeds_like_the_same_single_request(
    small_context_service: Service, headers: dict[str, str]
) -> None:
    chat = {"messages": [{"role": "user", "content": "say ok"}]}
    alone = post(small_context_service, "/v1/chat/completions", headers, **chat).json()

    status = finished(small_context_service, headers, [{"custom_id": "a", **_v1_line(chat)}])

    assert status["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
    result = small_context_service.call(
        "GET", f"/v1/files/{status['output_file_id']}/content", headers=headers
    ).json()
    said = result["response"]["body"]["choices"][0]
    assert said["message"] == {**alone["choices"][0]["message"]}


def test_a_file_with_a_line_beyond_the_context_of_all_workers_is_refused(
    small_context_service: Service, headers: dict[str, str]
) -> None:
    line = json.dumps({"prompt": "w " * 2500, "maxTokens": 10})

    response = small_context_service.call(
        "POST",
        "/api/llm/batches",
        data=line,
        headers={**headers, "content-type": "application/x-ndjson"},
    )

    (fault,) = response.json()["error"]["fields"]
    assert response.status_code == 400
    assert fault["param"] == "line 1.prompt"
    assert fault["message"].casefold().startswith(f"line 1: {WORDS}")


def _v1_line(body: dict[str, Any]) -> dict[str, Any]:
    return {"method": "POST", "url": "/v1/chat/completions", "body": body}


def finished(
    service: Service, headers: dict[str, str], lines: list[dict[str, Any]]
) -> dict[str, Any]:
    """Send lines as a batch of OpenAI's API, and return the batch after its end."""
    content = "\n".join(map(json.dumps, lines))
    file = service.call(
        "POST",
        "/v1/files",
        files={"file": ("lines.jsonl", content)},
        data={"purpose": "batch"},
        headers=headers,
    ).json()
    batch = post(
        service,
        "/v1/batches",
        headers,
        input_file_id=file["id"],
        endpoint="/v1/chat/completions",
        completion_window="24h",
    ).json()

    def read_batch() -> dict[str, Any]:
        response = service.call("GET", f"/v1/batches/{batch['id']}", headers=headers)
        return dict(response.json())

    wait_until(lambda: read_batch()["status"] in {"completed", "failed"}, 60, service.logs)
    return read_batch()
