"""Webhooks of a running service."""

from __future__ import annotations

from typing import Any

from tests.support.service import Service

WEBHOOK_TIMEOUT = 2.0


def submit_with_webhook(service: Service, headers: dict[str, str], url: str, **body: Any) -> str:
    response = service.call(
        "POST",
        "/api/llm/generate",
        json={"prompt": "hello", "maxTokens": 5, "webhookUrl": url, **body},
        headers=headers,
    )
    assert response.status_code in {200, 202}, response.text
    return str(response.json()["id"])


def webhook_of(service: Service, headers: dict[str, str], job_id: str) -> dict[str, Any]:
    response = service.call("GET", f"/api/llm/jobs/{job_id}/webhooks", headers=headers)
    assert response.status_code == 200, response.text
    (webhook,) = response.json()["data"]
    return dict(webhook)
