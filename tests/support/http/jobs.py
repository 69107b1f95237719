"""Jobs of a running service: how tests submit, follow and read them."""

from __future__ import annotations

from typing import Any

import requests

from core.ids import Prefix, parse_id
from models.usage.usage import Usage
from tests.support.http.sse import events, text_of
from tests.support.service import Service

LONG_JOB: dict[str, Any] = {"prompt": "word " * 50, "maxTokens": 400, "ignoreEos": True}


def usage_of(service: Service, job_id: str) -> Usage | None:
    with service.sessions() as session:
        row = session.get(Usage, parse_id(Prefix.JOB, job_id))
    return row


def submit(service: Service, headers: dict[str, str], **body: Any) -> dict[str, Any]:
    response = service.call("POST", "/api/llm/jobs", json={**LONG_JOB, **body}, headers=headers)
    assert response.status_code == 202, response.text
    return dict(response.json())


def state_of(service: Service, headers: dict[str, str], job_id: str) -> str:
    return str(service.call("GET", f"/api/llm/jobs/{job_id}", headers=headers).json()["status"])


PROMPT = "def añadir(x): return '🎉🎉 世界' # " + "word " * 20


def stream_of(service: Service, headers: dict[str, str], **body: Any) -> requests.Response:
    return service.call(
        "POST",
        "/api/llm/generate",
        json={"prompt": PROMPT, **body},
        headers=headers,
        stream=True,
    )


def wait_for_text(service: Service, headers: dict[str, str], job_id: str) -> None:
    """Follow a job's stream until the job has text, and disconnect."""
    path = f"/api/llm/jobs/{job_id}/stream"
    with service.call("GET", path, headers=headers, stream=True) as response:
        assert any(text_of([event]) for event in events(response)), "the job ended without text"


def job_of(service: Service, headers: dict[str, str], job_id: str) -> dict[str, Any]:
    return dict(service.call("GET", f"/api/llm/jobs/{job_id}", headers=headers).json())


def generate(service: Service, key: dict[str, Any], **body: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {key['secret']}"}
    return service.call("POST", "/api/llm/generate", json=body, headers=headers)
