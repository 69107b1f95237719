"""Webhooks of a running service."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from core.ids import Prefix, parse_id
from models.database.base import SessionFactory
from models.jobs.job import Job
from models.webhooks.webhook import WebhookDelivery
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


def secret_of(service: Service, key: dict[str, Any]) -> str:
    """Return the secret that signs the webhooks of a key."""
    path = f"/api/keys/{key['id']}/webhook-secret"
    response = service.call("GET", path, headers=service.sign_in_admin())
    assert response.status_code == 200, response.text
    return str(response.json()["secret"])


def add_deliveries(
    rows: SessionFactory, job_id: str, url: str, n: int, **values: Any
) -> list[UUID]:
    """Add deliveries for a job to one receiver, and return their ids."""
    with rows.begin() as session:
        job = session.get_one(Job, parse_id(Prefix.JOB, job_id))
        made = [
            WebhookDelivery(
                user_id=job.user_id,
                api_key_id=job.api_key_id,
                job_id=job.id,
                url=url,
                event="job.succeeded",
                payload={"finishedAt": None},
                **values,
            )
            for _ in range(n)
        ]
        session.add_all(made)
    return [delivery.id for delivery in made]
